"""Fusion of models with one vocabulary: what it must equal exactly, and what it does with bad members."""

import asyncio
import gc
import math
import random
from collections import Counter

import numpy as np
import pytest

from eot.errors import CallError, ContextOverflowError, InputError
from eot.fusion import FusionSettings
from local_models import Sampling

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
transformers = pytest.importorskip("transformers", reason="needs the extra eot[torch]")
from fusion_exact import drawn_from, replies, rows, surprise  # noqa: E402
from fusion_models import byte_level, engine, sentence_piece  # noqa: E402
from transformers import DynamicCache  # noqa: E402
from weights import HOME, weights  # noqa: E402

from local_models.fusion import FusionEngine  # noqa: E402
from local_models.fusion.contrastive import contrastive  # noqa: E402
from local_models.fusion.logit import logit  # noqa: E402
from local_models.fusion.power import power  # noqa: E402
from local_models.fusion.prob import prob  # noqa: E402
from local_models.fusion.request import FusedRequest  # noqa: E402
from local_models.fusion.same import SameVocabulary  # noqa: E402
from local_models.transformers_engine import TransformersEngine  # noqa: E402

pytestmark = pytest.mark.torch
PROMPTS = [f"the cat {number} ran after the dog {number * 7} and" for number in range(20)]
GREEDY = Sampling(0, max_tokens=200)


@pytest.fixture(scope="module")
def pair():
    return engine(0), engine(1)


def fused(members, method="logit", **keys):
    names = tuple(f"m{place}" for place in range(len(members)))
    return FusionEngine(members, FusionSettings(members=names, method=method, **keys), "pair", parallel=32)


async def said(one, prompts, sampling):
    return [made.text for made in await asyncio.gather(*(one.complete(prompt, sampling) for prompt in prompts))]


@pytest.mark.parametrize("method", ["logit", "prob", "power"])
@pytest.mark.parametrize("draft", [0, 3])
async def test_one_model_twice_writes_what_it_writes_alone(pair, method, draft):
    alone = await said(pair[0], PROMPTS, GREEDY)
    prompts, alone = (PROMPTS, alone) if not draft else (PROMPTS[:4], alone[:4])
    assert await said(fused([pair[0], pair[0]], method, draft=draft), prompts, GREEDY) == alone


@pytest.mark.parametrize("settings", [{"weights": (1, 0)}, {"weights": (1, 0), "draft": 2}, {"weights": (0, 3)}])
async def test_a_weight_of_zero_leaves_the_other_model_as_it_is(pair, settings):
    alone = pair[settings["weights"].index(max(settings["weights"]))]
    prompts = PROMPTS[:3] if "draft" in settings else PROMPTS
    assert await said(fused(pair, **settings), prompts, GREEDY) == await said(alone, prompts, GREEDY)


async def test_a_set_of_one_draws_what_the_model_draws_alone(pair):
    warm = Sampling(0.9, top_p=0.9, max_tokens=50, seed=7)
    assert await said(fused(pair[:1]), PROMPTS, warm) == await said(pair[0], PROMPTS, warm)


async def test_sampling_is_a_manual_multinomial_of_the_fused_distribution(pair):
    ids, draws, written = byte_level().encode("the dog"), random.Random(11), []
    for _ in range(25):
        weighed = np.array([0.7, 0.3]) @ np.exp(rows(pair, ids + written))
        kept = drawn_from(np.log(weighed), 0.8, 0.9)
        order = np.argsort(-kept, kind="stable")
        written.append(int(order[np.searchsorted(kept[order].cumsum(), draws.random(), side="right")]))
    sampling = Sampling(0.8, top_p=0.9, max_tokens=25, seed=11)
    one = await fused(pair, "prob", weights=(7, 3)).complete("the dog", sampling)
    assert one.text == pair[0].text(written)


async def test_the_speculative_ensemble_draws_from_the_serial_ones_distribution(pair):
    """Chi-square over whole replies of three tokens; the same replies are not what the main member alone would draw."""
    runs, how = 1000, {"temperature": 1.0, "top_p": 0.6}
    prompt = byte_level().encode("the dog")
    decoding = SameVocabulary(pair, (0.5, 0.5), FusionSettings(members=("a", "b"), method="prob", draft=2), "prob")
    asked = [FusedRequest([prompt, prompt], Sampling(**how, max_tokens=3, seed=seed), 3, str) for seed in range(runs)]
    await asyncio.to_thread(decoding.decode, asked)
    found = Counter([(await request.told(None)).text for request in asked])

    def exact(blend):
        return {str(list(ids)): p for ids, p in replies(prompt, blend, pair, 3, **how).items()}

    mixed = exact(lambda lp: np.logaddexp(*lp) - math.log(2))
    assert len(mixed) > 50
    assert surprise(found, mixed, runs) > 1e-3
    assert surprise(found, exact(lambda lp: lp[0]), runs) < 1e-6


@pytest.mark.parametrize("method", ["logit", "prob", "power", "contrastive"])
async def test_speculation_changes_no_greedy_text(pair, method):
    three = [*pair, engine(2)] if method != "contrastive" else pair
    sampling = Sampling(0, max_tokens=60)
    serial = await said(fused(three, method), PROMPTS[:4], sampling)
    assert await said(fused(three, method, draft=1), PROMPTS[:4], sampling) == serial
    assert await said(fused(three, method, draft=4), PROMPTS[:4], sampling) == serial


async def test_speculation_takes_fewer_passes_than_serial_fusion_where_members_agree(pair):
    passes = Counter()
    hook = pair[0].model.register_forward_hook(lambda *_: passes.update(["one"]))
    counted = []
    for draft in (0, 4):
        await fused([pair[0], pair[0]], draft=draft).complete("the cat", Sampling(0, max_tokens=60))
        counted.append(passes.pop("one"))
    hook.remove()
    assert counted[0] == 2 * 60
    assert counted[1] <= 60 * 6 / 5  # four drafts and one verification give five tokens


def test_the_means_are_what_their_formulas_say():
    members = torch.tensor([[[0.5, 0.3, 0.2]], [[0.1, 0.6, 0.3]]]).log()  # 2 1 3
    weights = torch.tensor([[0.25], [0.75]])
    exp = {
        "prob": prob(members, weights),
        "logit": logit(members, weights),
        "half": power(members, weights, 0.5),
        "one": power(members, weights, 1.0),
        "nearly": power(members, weights, 1e-5),
    }
    got = {name: one.exp()[0].tolist() for name, one in exp.items()}
    assert got["prob"] == pytest.approx([0.2, 0.525, 0.275], abs=1e-6)
    # 0.5^.25 * 0.1^.75 = 0.149535, 0.3^.25 * 0.6^.75 = 0.504538, 0.2^.25 * 0.3^.75 = 0.271081; their sum is 0.925154
    assert got["logit"] == pytest.approx([0.161633, 0.545356, 0.293011], abs=1e-5)
    # (.25 sqrt .5 + .75 sqrt .1)^2 = 0.171353, 0.515349, 0.273106 likewise; their sum is 0.959807
    assert got["half"] == pytest.approx([0.178528, 0.536930, 0.284542], abs=1e-5)
    assert got["one"] == pytest.approx(got["prob"], abs=1e-6)
    assert got["nearly"] == pytest.approx(got["logit"], abs=1e-6)


def test_contrast_is_taken_among_what_the_expert_finds_plausible():
    members = torch.tensor([[[0.6, 0.37, 0.03]], [[0.6, 0.1, 0.3]]]).log()
    both = torch.ones(2, 1)
    got = contrastive(members, both, 0.1, 1.0).exp()[0].tolist()
    # .6^2/.6 = .6 and .37^2/.1 = 1.369; the third lies below a tenth of the best
    assert got == pytest.approx([0.6 / 1.969, 1.369 / 1.969, 0], abs=1e-6)
    assert contrastive(members, torch.tensor([[1.0], [0.0]]), 0.1, 1.0).exp()[0, 1] == pytest.approx(0.37)
    assert contrastive(members, torch.tensor([[0.0], [1.0]]), 0.1, 1.0).exp()[0, 2] == pytest.approx(0.3)


def test_what_a_member_rules_out_is_no_number_nowhere():
    members = torch.tensor([[[0.5, 0.5, 0.0]], [[0.0, 0.5, 0.5]]]).log()
    weights = torch.tensor([[0.5], [0.5]])
    assert logit(members, weights).exp().tolist() == [[0, 1, 0]]
    assert prob(members, weights).exp()[0].tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert not contrastive(members, weights, 0.1, 0.5).isnan().any()
    lost = torch.full_like(members, torch.nan)
    lost[0] = members[0]
    for mean in (logit, prob):
        assert mean(lost, torch.tensor([[1.0], [0.0]])).exp()[0].tolist() == pytest.approx([0.5, 0.5, 0])


async def test_a_batch_writes_what_each_prompt_gives_alone(pair):
    one, sampling = fused(pair), Sampling(0.8, max_tokens=20, seed=3)
    assert await said(one, PROMPTS[:6], sampling) == [(await one.complete(p, sampling)).text for p in PROMPTS[:6]]


@pytest.mark.parametrize("draft", [0, 2])
async def test_pieces_come_as_they_are_certain_and_stop_strings_are_not_shown(pair, draft):
    one = fused(pair, draft=draft)
    free = await one.complete("the cat", Sampling(0, max_tokens=40))
    stop, heard = free.text[12:15], []
    cut = await one.complete("the cat", Sampling(0, max_tokens=40, stop=(stop,)), heard.append)
    assert (cut.text, cut.finish) == (free.text.partition(stop)[0], "stop")
    assert "".join(heard) == cut.text
    assert len(heard) > 2


@pytest.mark.parametrize("draft", [0, 2])
async def test_the_trace_names_each_members_share_and_who_won(pair, draft):
    one = fused(pair, "prob", weights=(3, 1), draft=draft)
    made = await one.complete("the dog", Sampling(0, max_tokens=8, top_logprobs=3))
    lp = rows(pair, byte_level().encode("the dog"))
    mixed = np.log(np.array([0.75, 0.25]) @ np.exp(lp))
    best, first = int(mixed.argmax()), made.logprobs[0]
    assert len(made.logprobs) == 8
    assert first.logprob == pytest.approx(mixed[best], abs=1e-4)
    assert [view.logprob for view in first.members] == pytest.approx(lp[:, best], abs=1e-4)
    assert sum(view.share for view in first.members) == pytest.approx(1)
    assert first.members[0].share == pytest.approx(0.75 * math.exp(lp[0, best] - mixed[best]), abs=1e-4)
    assert [len(view.top) for view in first.members] == [3, 3]
    assert set(first.won) == {model.name for model, row in zip(pair, lp, strict=True) if row.argmax() == best}


@pytest.mark.parametrize("draft", [0, 2])
async def test_a_member_without_numbers_is_dropped_and_the_reply_says_so(pair, draft, caplog):
    sick = engine(5, name="sick")
    torch.nn.init.constant_(sick.model.lm_head.weight, torch.nan)
    for members in ([pair[0], sick], [sick, pair[0]]):
        made = await fused(members, draft=draft).complete("the cat", Sampling(0, max_tokens=20, top_logprobs=1))
        assert made.text == (await pair[0].complete("the cat", Sampling(0, max_tokens=20))).text
        assert made.notes == ("sick was dropped: its logits were not numbers",)
        assert [view.name for view in made.logprobs[-1].members] == ["tiny0"]
    assert "sick was dropped" in caplog.text
    with pytest.raises(CallError, match="leave no token"):
        await fused([sick, sick], draft=draft).complete("the cat", Sampling(0, max_tokens=20))


async def test_a_failing_member_is_named_and_the_next_request_runs(pair):
    one = fused(pair)

    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    hook = pair[1].model.register_forward_pre_hook(full)
    with pytest.raises(CallError, match="tiny1: out of memory"):
        await one.complete("the cat", Sampling(0, max_tokens=3))
    hook.remove()
    assert (await one.complete("the cat", Sampling(0, max_tokens=3))).output_tokens == 3


async def test_different_vocabularies_are_refused_with_the_first_difference():
    with pytest.raises(InputError, match=r"needs members with one vocabulary, and id \d+ is '.+' in tiny0 and '.+' in"):
        fused([engine(0), engine(1, sentence_piece())], "logit")
    with pytest.raises(InputError, match=r"id 300 is nothing in tiny0 and"):
        fused([engine(0), engine(1, byte_level(320))], "prob")


async def test_heads_padded_to_different_sizes_are_cut_to_what_all_have(pair):
    padded = engine(0, head=340)
    with torch.no_grad():
        for mine, theirs in zip(padded.model.parameters(), pair[0].model.parameters(), strict=True):
            mine[: len(theirs)] = theirs
        padded.model.lm_head.weight[300:] = 0
    sampling = Sampling(0.7, max_tokens=30, seed=1)
    assert await said(fused([padded, pair[1]]), PROMPTS[:3], sampling) == await said(fused(pair), PROMPTS[:3], sampling)


async def test_a_context_that_one_member_cannot_hold_is_refused_with_its_name(pair):
    one = fused([pair[0], engine(1, name="short", context=40)])
    with pytest.raises(ContextOverflowError, match="of short 40"):
        await one.complete("the cat " * 60, Sampling())
    made = await one.complete("the cat", Sampling(0, max_tokens=400))
    assert (made.finish, one.context_tokens) == ("length", 40)
    assert made.output_tokens == 40 - len(byte_level().encode("the cat"))


async def test_each_member_reads_the_chat_in_its_own_template(pair):
    curt = engine(1)
    curt.tokenizer = type(curt.tokenizer)(tokenizer_object=curt.tokenizer.backend_tokenizer, eos_token="<|end|>")
    curt.tokenizer.chat_template = "Q: {{ messages[0]['content'] }} A:"
    made = await fused([pair[0], curt], "prob").generate(
        [{"role": "user", "content": "the dog"}], Sampling(0, max_tokens=1, top_logprobs=1)
    )
    ids = [byte_level().encode(text) for text in ("user: the dog\nassistant:", "Q: the dog A:")]
    own = [rows([model], prompt)[0] for model, prompt in zip(pair, ids, strict=True)]
    best = int(np.logaddexp(*own).argmax())
    assert [view.logprob for view in made.logprobs[0].members] == pytest.approx([row[best] for row in own], abs=1e-4)
    curt.tokenizer.chat_template = None
    with pytest.raises(InputError, match="tiny1 is a base model"):
        await fused([pair[0], curt]).generate([{"role": "user", "content": "x"}], Sampling())


@pytest.mark.parametrize(("draft", "requests"), [(0, 200), (2, 60)])
async def test_requests_that_are_cancelled_leave_no_cache_behind(pair, draft, requests):
    """As for the issue's 4,000: each hangs up after a random number of pieces, or has been served before."""
    one, draws = fused(pair, draft=draft), random.Random(0)

    async def hang_up(number):
        left = draws.randrange(1, 12)

        def hear(_):
            nonlocal left
            left -= 1
            if not left:
                raise ConnectionError

        try:
            await one.complete("the cat", Sampling(0.9, max_tokens=400, seed=number), hear)
        except ConnectionError:
            return True
        return False

    gone = await asyncio.gather(*(hang_up(number) for number in range(requests)))
    assert sum(gone) > requests / 2
    assert (await one.complete("the cat", Sampling(0, max_tokens=2))).output_tokens == 2
    await one.close()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is DynamicCache]


def test_settings_that_cannot_work_are_refused_and_say_what_would():
    def refused(said, **keys):
        with pytest.raises(ValueError, match=said):
            FusionSettings(**({"members": ("a", "b")} | keys))

    refused("write numbers of at least 0", weights=(1, -1))
    refused("write numbers of at least 0|finite", weights=(1, math.nan))
    refused("write numbers of at least 0|finite", weights=(1, math.inf))
    refused("at least one member must count", weights=(0, 0))
    refused("3 weights for 2 members", weights=(1, 1, 1))
    refused("'logit', 'prob'", method="mined")
    refused("does not read top_k; it reads draft, weights", method="logit", top_k=5)
    refused("two members: the expert first", method="contrastive", members=("a", "b", "c"))


@pytest.mark.llm
async def test_a_real_model_twice_writes_what_it_writes_alone_in_fp32():
    path = weights("smollm2-135m")
    small = await TransformersEngine.load(path, home=HOME, threads=1, context=256, dtype="float32")
    prompts, sampling = ["The capital of France is", "def fibonacci(n):\n"], Sampling(0, max_tokens=24)
    alone = await said(small, prompts, sampling)
    assert "Paris" in alone[0]
    assert await said(fused([small, small]), prompts, sampling) == alone
    assert await said(fused([small, small], "prob", weights=(1, 0)), prompts, sampling) == alone
    assert await said(fused([small, small], draft=3), prompts, sampling) == alone
    await small.close()
