"""A fused set by its name: the table, the agent, what is refused, and `eot models fuse`."""

import json
import shutil

import pytest
from command import eot

from api.compose import House
from eot.errors import InputError, SettingsError, UnknownNameError
from eot.settings import CouncilSettings, Settings, load
from eot.types import Message, Prompt

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
from fusion_models import byte_level, engine, sentence_piece  # noqa: E402

from local_models import Engines  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models on disk: a and b share a vocabulary, c has another one."""
    home = tmp_path_factory.mktemp("models")
    for name, seed, tokenizer in (("a", 0, byte_level()), ("b", 1, byte_level()), ("c", 2, sentence_piece())):
        one = engine(seed, tokenizer)
        one.model.save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
    return home


def table(folder, names="ab", **keys):
    return Settings(
        home=folder / "home",
        threads=1,
        context=128,
        fusions={"pair": {"members": [str(folder / name) for name in names], **keys}},
        agents={"f": {"model": "fusion/pair", "max_tokens": 12}},
    )


def asked(text="the cat"):
    return Prompt(messages=(Message(role="user", content=text),), seed=4)


async def test_a_fused_set_sits_in_a_council_like_any_model(folder):
    house = House(table(folder))
    agent = (await house.council(CouncilSettings(agents=("f",), topology="memory"))).agents["f"]
    heard = []
    reply = await agent.ask(asked(), heard.append)
    assert "".join(delta.text for delta in heard) == reply.text
    assert reply.usage.output_tokens == 12
    await house.close()


async def test_a_reply_is_recalled_only_while_the_set_is_the_same(folder):
    recalled = []
    for weights in ((1, 1), (1, 1), (1, 5)):
        house = House(table(folder, weights=weights))
        seats = await house.council(CouncilSettings(agents=("f",), topology="memory"))
        recalled.append((await seats.agents["f"].ask(asked("once more").model_copy(update={"run_id": "r"}))).recalled)
        await house.close()
    assert recalled == [False, True, False]


async def test_a_set_that_nobody_defined_is_named_with_those_that_are(folder):
    settings = table(folder).model_copy(
        update={"agents": {"f": Settings(agents={"f": {"model": "fusion/pare"}}).agents["f"]}}
    )
    with pytest.raises(UnknownNameError, match=r"no fusion called 'pare'\. Did you mean 'pair'"):
        await House(settings).council(CouncilSettings(agents=("f",), topology="memory"))


async def test_a_base_model_in_a_set_is_refused_before_anyone_is_asked(folder):
    settings = table(folder, names="a")
    fusions = {"pair": settings.fusions["pair"].model_copy(update={"members": ("gemma-3-270m", "smollm2-135m")})}
    with pytest.raises(InputError, match="gemma-3-270m is a base model"):
        await House(settings.model_copy(update={"fusions": fusions})).council(
            CouncilSettings(agents=("f",), topology="memory")
        )


async def test_one_model_under_two_names_is_refused(folder):
    copy = folder / "copy-of-a"
    shutil.copytree(folder / "a", copy, dirs_exist_ok=True)
    for twin in (copy, folder / "b" / ".." / "a"):
        settings = table(folder).fusions["pair"].model_copy(update={"members": (str(folder / "a"), str(twin))})
        engines = Engines(folder / "home", threads=1, fusions={"twins": settings})
        with pytest.raises(InputError, match="are the same model"):
            await engines.fused("twins")
        await engines.close()


async def test_members_are_loaded_once_for_all_the_sets_and_agents_that_name_them(folder):
    one, other = (table(folder, method=method).fusions["pair"] for method in ("logit", "prob"))
    engines = Engines(folder / "home", threads=1, fusions={"one": one, "other": other})
    first, second = await engines.fused("one"), await engines.fused("other")
    assert first is not second
    assert first.members[0] is second.members[0] is await engines.get(str(folder / "a"))
    assert await engines.fused("one") is first
    await engines.close()


def test_the_table_is_read_and_its_faults_are_explained(tmp_path):
    path = tmp_path / "eot.toml"
    path.write_text('[fusions.pair]\nmembers = ["a", "b"]\nmethod = "safe"\nweights = [0.6, 0.4]\ndraft = 5\n')
    assert load(path).fusions["pair"].shares == (0.6, 0.4)
    for wrong, said in (
        ("weights = [1]", "1 weights for 2 members"),
        ("method = 'mined'", "fusions.pair.method: read 'mined'"),
        ("top_q = 3", "did you mean 'top_k'"),
        ("top_k = 3", "does not read top_k"),
    ):
        path.write_text(f'[fusions.pair]\nmembers = ["a", "b"]\n{wrong}\n')
        with pytest.raises(SettingsError, match=said):
            load(path)


def test_a_set_is_tried_from_the_command_line(folder):
    ran = eot(folder, "models", "fuse", "./a", "./b", "--tokens", "4", "--json")
    found = json.loads(ran.stdout)
    assert (found["method"], found["difference"], found["common"]) == ("logit", None, 298)
    assert [cost["vocabulary"] for cost in found["members"]] == [300, 300]
    assert found["members"][0]["weight_bytes"] == 2 * found["members"][0]["parameters"]  # bf16
    assert found["members"][0]["cache_bytes_per_token"] == 2 * 2 * 2 * 8 * 2  # keys, values; layers, heads, size, bytes
    shown = eot(folder, "models", "fuse", "./a", "./b", "--weights", "2,1").stdout
    assert "one vocabulary" in shown
    assert "weights = [2.0, 1.0]" in shown


def test_different_vocabularies_are_tried_with_the_default_for_them(folder):
    found = json.loads(eot(folder, "models", "fuse", "./a", "./c", "--tokens", "4", "--json").stdout)
    assert found["method"] == "safe"
    assert found["difference"].startswith("id ")
    assert 256 <= found["common"] < 300


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("./a", "./c", "--method", "prob"), "needs members with one vocabulary, and id"),
        (("./a",), "at least two members"),
        (("./a", "./b", "--weights", "x"), "is not a list of numbers"),
        (("./a", "./b", "--weights", "1,-1"), "-1.0 is no weight"),
        (("./a", "./b", "--method", "mined"), "'logit', 'prob'"),
    ],
)
def test_a_set_that_cannot_work_says_why_and_ends_with_2(folder, words, said):
    ran = eot(folder, "models", "fuse", *words)
    assert (ran.returncode, said in ran.stderr) == (2, True), ran.stderr
