"""The Models view in a real Chromium: mixtures, jobs that make models and fused sets, with tiny real models."""

import asyncio
import json
import math
import re

import httpx
import pytest
from browser import serious
from playwright.sync_api import expect
from serving import serving, settings

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from fusion_models import byte_level, engine  # noqa: E402  (it imports torch)
from moe_models import branch, dense, with_tokenizer  # noqa: E402

from eot.settings import MoeSettings  # noqa: E402
from local_models.moe.build import Source, build, random_gate  # noqa: E402
from local_models.moe.recipe import recipe  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.torch]
expect.set_options(timeout=15_000)  # as in test_page
SLOW = 60_000
"""Milliseconds in which a model is loaded on a busy machine."""
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A mixture of two experts, one of an evil name, and what it was built of; two models to be fused, likewise."""
    home = tmp_path_factory.mktemp("home")
    base = dense("llama", home / "built" / "tiny", vocab_size=300, num_hidden_layers=2)
    low, high = [branch(base, home / "built" / name, at) for at, name in enumerate(("low", "high"))]
    for source in (base, low, high):
        with_tokenizer(source.folder)
    named = [Source(low.folder, "low"), Source(high.folder, EVIL)]
    build(base, named, recipe(2, active=2), random_gate(2, 2, 32), home / "built" / "pair")
    for seed, name in enumerate(("a", EVIL)):
        engine(seed, byte_level()).model.save_pretrained(home / "loose" / name)
        byte_level().save_pretrained(home / "loose" / name)
    return home


@pytest.fixture(scope="module")
def served(home):
    places = {"one": home / "loose" / "a", "two": home / "loose" / EVIL}
    agents = {name: {"model": f"local/{place}"} for name, place in places.items()}
    fusions = {"duo": {"members": [str(place) for place in places.values()], "method": "prob", "weights": [1, 1]}}
    moes = {"both": MoeSettings(model="pair")}
    wanted = settings(
        home, agents={"a": ["The answer is 7."], **agents}, moes=moes, fusions=fusions, threads=1, context=128
    )
    with serving(wanted) as on:
        yield on


def section(page, name):
    return page.locator(f"section[aria-labelledby={name}]")


def tokens_of(part):
    return part.get_by_role("listbox").get_by_role("option")


def explained(page, text="the cat <b>sat</b>\nhere"):
    part = section(page, "mixtures")
    part.get_by_role("combobox", name="Mixture").select_option("both")
    part.get_by_label("Text to read").fill(text)
    part.get_by_role("button", name="Which expert takes it?").click()
    expect(tokens_of(part).first).to_be_visible(timeout=SLOW)
    return part


def owners(part):
    """The numbers that stand at the tokens: whose each is."""
    return tokens_of(part).evaluate_all("all => all.map(each => each.dataset.owner ?? '')")


def test_a_mixture_shows_which_expert_took_which_token_layer_by_layer(opened, served):
    page = opened(served.url, "/#/models")
    text = "the cat <b>sat</b>\nhere"
    part = explained(page, text)
    told = httpx.post(f"{served.url}/v1/moe/both/explain", json={"text": text}, timeout=60).json()
    expect(part).to_contain_text("2 experts, 2 active a token")
    options = tokens_of(part)
    expect(options).to_have_count(len(told["tokens"]))
    for layer in range(2):
        part.get_by_role("combobox", name="Layer").select_option(str(layer + 1))
        assert owners(part) == [str(token[0] + 1) for token in told["layers_experts"][layer]]
        load = told["load"][layer]
        expect(part.get_by_role("status")).to_contain_text(f"{load['entropy']:.3f} nats, at most {math.log(2):.3f}")
        bars = part.get_by_role("list", name="Load of the experts").get_by_role("listitem")
        expect(bars).to_have_count(2)
        assert [int(re.search(r"(\d+)%", bar)[1]) for bar in bars.all_inner_texts()] == pytest.approx(
            [100 * share for share in load["shares"]], abs=0.51
        )
    options.nth(1).click()
    expect(part.locator(".one li")).to_have_count(2)
    first = told["layers_experts"][0][1][0]
    expect(part.locator(".one li").first).to_contain_text(f"Layer 1: {told['experts'][first]}")


def test_tokens_are_gone_through_by_keyboard_with_one_stop_of_tab(opened, served):
    page = opened(served.url, "/#/models")
    part = explained(page)
    options = tokens_of(part)
    part.get_by_role("combobox", name="Layer").focus()
    page.keyboard.press("Tab")
    expect(options.first).to_be_focused()
    for key, at in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", options.count() - 1), ("Home", 0)):
        page.keyboard.press(key)
        expect(options.nth(at)).to_be_focused()
        expect(options.nth(at)).to_have_attribute("aria-selected", "true")
    expect(part.locator(".one")).to_contain_text("Layer 2:")
    assert part.locator("[role=option][tabindex='0']").count() == 1


def fuse(page, text="the cat", tokens=12):
    part = section(page, "fusion")
    part.get_by_label("It is").select_option("a text to go on from")
    part.get_by_label("Prompt").fill(text)
    part.get_by_label("Tokens at most").fill(str(tokens))
    part.get_by_role("button", name="Run").click()
    expect(part.get_by_role("status")).to_contain_text(f"{tokens} tokens", timeout=SLOW)
    expect(tokens_of(part)).to_have_count(tokens)
    return part


def owner(token):
    """Who decided a token of the trace, as the page numbers them."""
    won = [at for at, member in enumerate(token["members"]) if member["name"] in token["won"]]
    return str(1 + max(won, key=lambda at: token["members"][at]["share"])) if len(won) == 1 else ""


def test_a_fused_set_shows_who_won_each_token_and_what_was_likely(opened, served):
    page = opened(served.url, "/#/models")
    part = fuse(page)
    asked = {"model": "fusion/duo", "prompt": "the cat", "max_tokens": 12, "temperature": 0, "trace": 5}
    answer = httpx.post(f"{served.url}/v1/fusion/completions", json=asked, timeout=60).json()
    trace = answer["choices"][0]["trace"]
    assert part.locator(".whole").text_content() == answer["choices"][0]["text"], "parts of characters come together"
    expect(part.get_by_role("status")).to_contain_text(f"prob: a 50%, {EVIL} 50%")
    assert owners(part) == [owner(token) for token in trace]
    assert {"1", "2"} <= set(owners(part)), "the members disagree somewhere, or this shows nothing"
    at = next(at for at, token in enumerate(trace) if owner(token) == "1")
    tokens_of(part).nth(at).click()
    for name, top in [("Fused", trace[at]["top"]), *((one["name"], one["top"]) for one in trace[at]["members"])]:
        rows = part.locator(".one").get_by_role("list", name=name, exact=True).get_by_role("listitem")
        expect(rows).to_have_count(5)
        told = [int(re.search(r"(\d+)%", row)[1]) for row in rows.all_inner_texts()]
        assert told == pytest.approx([100 * math.exp(one["logprob"]) for one in top], abs=0.51)
    expect(part.locator(".one")).to_contain_text(f"{round(100 * trace[at]['members'][0]['share'])}% of this choice")
    page.keyboard.press("ArrowRight")
    expect(tokens_of(part).nth(at + 1)).to_be_focused()
    expect(part.locator(".one h3")).to_contain_text(f"Token {at + 2}:")


def test_members_method_and_weights_are_chosen(opened, served):
    page = opened(served.url, "/#/models")
    part = section(page, "fusion")
    part.get_by_role("combobox", name="Set").select_option("Choose members")
    expect(part.get_by_role("button", name="Run")).to_be_disabled()
    part.get_by_label("one", exact=True).check()
    part.get_by_label("two", exact=True).check()
    part.get_by_label("Method").select_option("contrastive")
    expect(part).to_contain_text("the expert (first member) against the amateur")
    expect(part.get_by_label("Weight of two")).to_have_count(0)
    part.get_by_label("Method").select_option("logit")
    part.get_by_label("Weight of two").fill("3")
    fuse(page, tokens=6)
    expect(part.get_by_role("status")).to_contain_text(f"logit: a 25%, {EVIL} 75%")


def test_what_the_server_refuses_is_told_in_the_panel(opened, served):
    page = opened(served.url, "/#/models", may="Failed to load resource")
    part = section(page, "fusion")
    part.get_by_role("combobox", name="Set").select_option("Choose members")
    part.get_by_label("one", exact=True).check()
    part.get_by_label("Weight of one").fill("0")
    part.get_by_label("Prompt").fill("the dog")
    part.get_by_role("button", name="Run").click()
    expect(part.get_by_role("alert")).to_contain_text("weight")
    text = section(page, "mixtures")
    text.get_by_label("Text to read").fill("a" * 19_000)
    text.get_by_role("button", name="Which expert takes it?").click()
    expect(text.get_by_role("alert")).to_contain_text("tokens", timeout=SLOW)


def test_names_and_tokens_from_the_server_stay_text(opened, served):
    page = opened(served.url, "/#/models")
    mixtures = explained(page, f"{EVIL}<script>alert(2)</script>\u202egnp.exe")
    expect(mixtures.get_by_role("list", name="Load of the experts")).to_contain_text(EVIL)
    tokens_of(mixtures).first.click()
    expect(mixtures.locator(".one")).to_contain_text(EVIL)
    fusion = fuse(page, EVIL)
    tokens_of(fusion).first.click()
    expect(fusion.locator(".one")).to_contain_text(EVIL)
    page.wait_for_timeout(300)
    for thing in ("img", "script:not([src])", "[onerror]"):
        assert page.locator(f"body {thing}").count() == 0, thing
    bidi = "all => [...new Set(all.map(each => getComputedStyle(each).unicodeBidi))]"
    assert tokens_of(mixtures).evaluate_all(bidi) == ["isolate"]


def begun(served, tokens, name):
    """A job that trains a mixture on two brought texts."""

    def brought(text):
        rows = "".join(json.dumps({"text": " ".join([text] * at)}) + "\n" for at in range(20, 50))
        answer = httpx.post(f"{served.url}/v1/files", files={"file": ("t.jsonl", rows)}, data={"purpose": "training"})
        return answer.json()["id"]

    body = {"action": "train", "base": "tiny", "model_name": name, "window": 32, "held": 64, "router_tokens": 128,
            "corpora": {"low": brought("cat bad"), "high": brought("sum torn")}, "tokens": tokens}  # fmt: skip
    answer = httpx.post(f"{served.url}/v1/moe/builds", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_jobs_show_how_far_they_are_and_are_ended(opened, served):
    page = opened(served.url, "/#/models")
    part = section(page, "jobs")
    expect(part).to_contain_text("No job yet")
    begun(served, 10_000_000, "endless")
    row = part.get_by_role("listitem").filter(has_text="endless (moe, train)")
    expect(row).to_contain_text("running", timeout=SLOW)
    expect(row).to_contain_text(re.compile(r"branch low.*step \d+ / \d+ · loss \d\.\d{3}"), timeout=SLOW)
    before = row.inner_text()
    expect(row.get_by_role("progressbar")).to_have_attribute("max", "1")
    expect(row).not_to_have_text(before, timeout=SLOW)
    begun(served, 320, "next")
    waiting = part.get_by_role("listitem").filter(has_text="next (moe, train)")
    expect(waiting).to_contain_text("queued")
    assert waiting.get_by_role("progressbar").count() == 0
    waiting.get_by_role("button", name="Cancel next").click()
    expect(waiting).to_contain_text("cancelled")
    row.get_by_role("button", name="Cancel endless").click()
    expect(row).to_contain_text("cancelled")
    expect(row.get_by_role("button")).to_have_count(0)
    page.reload()
    expect(row).to_contain_text("cancelled")


def test_a_key_without_the_scope_admin_sees_no_job_and_every_mixture(opened, home, tmp_path):
    moes = {"both": MoeSettings(model=str(home / "built" / "pair"))}
    with serving(settings(tmp_path, moes=moes)) as on:
        made = on.service.keyring.create("me", ("chat",))
        key = asyncio.run_coroutine_threadsafe(made, on.loop).result(10)[1]
        page = opened(on.url, may="Failed to load resource")
        page.evaluate("key => sessionStorage.setItem('eot.key', key)", key)
        page.goto(f"{on.url}/#/models")
        page.reload()
        expect(section(page, "jobs")).to_contain_text("Jobs are shown to keys with the scope admin.")
        assert section(page, "jobs").get_by_role("button").count() == 0
        expect(section(page, "mixtures").get_by_role("combobox", name="Mixture")).to_have_value("both")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_no_serious_fault_where_tokens_are_shown(opened, served, theme, width):
    page = opened(served.url, "/#/models", color_scheme=theme, viewport={"width": width, "height": 844})
    for part in (explained(page), fuse(page)):
        tokens_of(part).nth(2).click()
        expect(part.locator(".one")).to_be_visible()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_panels_speak_chinese(opened, served):
    page = opened(served.url, "/#/models", locale="zh-CN")
    part = section(page, "fusion")
    part.get_by_label("组合").select_option("自选成员")
    part.get_by_label("方法").select_option("safe")
    expect(part).to_contain_text("主成员起草，其他成员检验")
    expect(section(page, "mixtures")).to_contain_text("2 个专家，每个词元激活 2 个")
    for name in ("jobs", "mixtures", "fusion"):
        expect(section(page, name).get_by_role("heading").first).to_have_text(re.compile(r"^[\u4e00-\u9fff]+$"))
