"""Mixtures that are looked at: dense models are refused unread, and of those that nobody uses one stays loaded."""

import asyncio
import json
import sys

import pytest
from pydantic import ValidationError

from api.http.moe_types import Drop
from api.mixing import Place, gate_note, mixture_place
from eot.errors import InputError, SettingsError
from eot.settings import load
from local_models.load import Engines
from local_models.moe.files import refuse_dense

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
pytestmark = pytest.mark.torch


class Loaded:
    """An engine that only says whether it was closed."""

    model = None

    def __init__(self):
        self.closed = False

    async def close(self):
        self.closed = True


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Engines that load nothing, and note what they would."""
    for name, config in {"one": {"num_experts": 2}, "two": {"num_local_experts": 2}, "plain": {}}.items():
        folder = tmp_path / "built" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(b"")
    made = {}

    async def load_one(self, name, path):
        async def begin():
            made[path.name] = Loaded()
            return made[path.name]

        return await self._engines.get((path, "transformers"), begin)

    monkeypatch.setattr(Engines, "_torch", load_one)
    monkeypatch.setattr("local_models.moe.routing.routers_of", lambda model: [])
    found = Engines(tmp_path, mixtures={"table": "one"})
    found.made = made
    return found


async def look(engines, name):
    async with engines.shown(name) as engine:
        await asyncio.sleep(0)
        assert not engine.closed


async def test_a_dense_model_is_refused_before_it_is_loaded(engines):
    with pytest.raises(InputError, match="plain is no mixture of experts"):
        await look(engines, "plain")
    assert not engines.made


def test_a_gguf_file_is_told_by_its_keys_and_without_its_packages(tmp_path, monkeypatch):
    gguf = pytest.importorskip("gguf")
    for name in ("sparse", "plain"):
        writer = gguf.GGUFWriter(tmp_path / f"{name}.gguf", "qwen2moe")
        writer.add_token_list(["a", "b" * 300])
        writer.add_token_types([1, 1])
        writer.add_bool("general.odd", True)
        if name == "sparse":
            writer.add_expert_count(4)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "plain.gguf").read_bytes()[:40])
    (tmp_path / "none.gguf").write_bytes(b"no")
    monkeypatch.setitem(sys.modules, "gguf", None)
    refuse_dense(tmp_path / "sparse.gguf")
    for name in ("plain", "cut", "none"):
        with pytest.raises(InputError, match=f"{name}.gguf is no mixture"):
            refuse_dense(tmp_path / f"{name}.gguf")


async def test_of_mixtures_that_no_agent_uses_the_last_one_stays(engines):
    await look(engines, "one")
    await asyncio.gather(look(engines, "two"), look(engines, "two"))
    assert (engines.made["one"].closed, engines.made["two"].closed) == (True, False)


async def test_a_mixture_that_an_agent_uses_stays(engines):
    await engines.mixture("table")
    await look(engines, "one")
    await look(engines, "two")
    assert not engines.made["one"].closed


@pytest.mark.parametrize("way", ["mixture", "shown"])
async def test_what_turns_out_to_be_no_mixture_is_not_kept(engines, monkeypatch, way):
    def refuse(model):
        raise InputError("no router in every layer")

    monkeypatch.setattr("local_models.moe.routing.routers_of", refuse)
    with pytest.raises(InputError, match="no router"):
        await (engines.mixture("table") if way == "mixture" else look(engines, "one"))
    assert engines.made["one"].closed


def test_no_mixture_is_called_as_its_jobs_are(tmp_path):
    (tmp_path / "eot.toml").write_text('[moes.builds]\nmodel = "x"\n')
    with pytest.raises(SettingsError, match="has the jobs"):
        load(tmp_path / "eot.toml")
    with pytest.raises(InputError, match="has the jobs"):
        mixture_place(Place(name="builds"), tmp_path)
    with pytest.raises(ValidationError, match="has the jobs"):
        Drop(action="drop", mixture="m", expert="0", model_name="builds")


def test_a_ridge_row_beside_others_is_told():
    assert not gate_note("closed-form ridge")
    assert "this mixture's gate is random" in gate_note("random")


def test_the_gate_of_a_shared_expert_is_a_router_wherever_parts_are_told_apart():
    from local_models.moe.parts import part_of  # noqa: PLC0415  (it imports torch)

    parts = [part_of(f"model.layers.0.mlp.{name}.weight") for name in ("gate", "shared_expert_gate")]
    assert parts == ["router", "router"]
    assert part_of("model.layers.0.mlp.shared_expert.up_proj.weight") == "rest"
