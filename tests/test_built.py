"""Models that were made here go by their name: listed, found, asked, fused and removed like any other."""

import json

import pytest
from command import eot

from api.compose import House
from eot.errors import InputError, UnknownNameError
from eot.fusion import FusionSettings
from eot.settings import AgentSettings, CouncilSettings, Settings
from local_models import Sampling, all_built, built, locate, place_for


def put(home, name):
    folder = home / "built" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 64}')
    (folder / "model.safetensors").write_bytes(b"12345678")
    return folder


def test_a_model_that_was_made_here_is_found_by_its_name_and_a_half_made_one_is_not(tmp_path):
    whole = put(tmp_path, "deep")
    (tmp_path / "built" / "half").mkdir()
    (tmp_path / "built" / ".deep2.training").mkdir()
    assert locate("deep", tmp_path) == built("deep", tmp_path) == whole
    assert all_built(tmp_path) == {"deep": whole}
    with pytest.raises(UnknownNameError, match="Did you mean 'deep'"):
        locate("deeq", tmp_path)
    assert built("../built/deep", tmp_path) is None


@pytest.mark.parametrize("name", ["", "Deep", "../x", "a/b", "-x", ".x", "a" * 65, "a.gguf"])
def test_a_name_that_could_be_a_path_or_an_option_is_no_name(tmp_path, name):
    with pytest.raises(InputError, match="is no name for a model"):
        place_for(name, tmp_path)


@pytest.mark.parametrize("name", ["deep", "smollm2-135m"])
def test_a_name_that_is_taken_is_not_given_again(tmp_path, name):
    put(tmp_path, "deep")
    with pytest.raises(InputError, match="already; take another name"):
        place_for(name, tmp_path)


def test_the_command_lists_and_removes_it(tmp_path):
    put(tmp_path / "home", "deep")
    rows = json.loads(eot(tmp_path, "models", "list", "--json").stdout)
    mine = next(row for row in rows if row["name"] == "deep")
    assert mine["on_disk"] == str(tmp_path / "home" / "built" / "deep")
    assert eot(tmp_path, "models", "rm", "deep").returncode == 0
    assert not (tmp_path / "home" / "built" / "deep").exists()


@pytest.mark.torch
async def test_it_is_an_agents_model_and_a_member_of_a_fused_set(tmp_path):
    tiny = pytest.importorskip("tiny")
    for seed, name in enumerate(("one", "two")):
        tiny.model(tmp_path / "built" / name, seed=seed)
    pair = {"pair": FusionSettings(members=("one", "two"))}
    agents = {
        "a": AgentSettings(model="local/one", max_tokens=4),
        "b": AgentSettings(model="fusion/pair", max_tokens=4),
    }
    house = House(Settings(home=tmp_path, agents=agents, fusions=pair, threads=1))
    try:
        council = await house.council(CouncilSettings(agents=("a", "b")), keep=False)
        assert set(council.agents) == {"a", "b"}
        said = [{"role": "user", "content": "Go"}]
        for engine in (await house._engines.get("one"), await house._engines.fused("pair")):
            generated = await engine.generate(said, Sampling(temperature=0, max_tokens=4))
            assert 1 <= generated.output_tokens <= 4
    finally:
        await house.close()
