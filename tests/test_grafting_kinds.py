"""Whose layers can stand elsewhere, which models are of one shape, and what a graft's card calls it."""

import json

import pytest
from command import eot

from eot.errors import InputError
from local_models.grafting import Layer, block_expanded, build, depth_upscaled, method_of
from local_models.grafting.build import KINDS, grafted_config, refuse_unlike

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from test_grafting import COMMON, loaded, logits, made, planning  # noqa: E402

pytestmark = pytest.mark.torch

LAYERS = depth_upscaled(6, 1)
MIXTURES = ("gpt_oss", "mixtral", "qwen2_moe", "qwen3_moe")


def without_kinds(kind, folder):
    """A random model whose configuration leaves the kinds of attention to the places, as older ones do."""
    more = {"head_dim": 8, "sliding_window": 4, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind in MIXTURES:
        more |= {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        more |= {"shared_expert_intermediate_size": 16}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **COMMON | more)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    file = folder / "config.json"
    told = json.loads(file.read_text())
    told.pop("layer_types", None)
    file.write_text(json.dumps(told))
    return loaded(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graft_of_every_kind_reads_as_its_layers_do_in_that_order(tmp_path, kind):
    base = without_kinds(kind, tmp_path / "base")
    graft = loaded(build([tmp_path / "base"], LAYERS, tmp_path / "graft").folder)
    kinds = getattr(base.config, "layer_types", None)
    assert getattr(graft.config, "layer_types", None) == (kinds and [kinds[layer.index] for layer in LAYERS])
    with planning.rearranged(base, planning.decoder_of(base), LAYERS):
        wanted = logits(base, use_cache=False)
    torch.testing.assert_close(logits(graft, use_cache=False), wanted, atol=1e-5, rtol=1e-5)
    if kind not in MIXTURES:
        wider = loaded(build([tmp_path / "base"], block_expanded(6, 2), tmp_path / "wider").folder)
        torch.testing.assert_close(logits(wider), logits(base), atol=1e-4, rtol=1e-4)


def test_models_whose_layers_may_depend_on_their_place_are_refused():
    with pytest.raises(InputError, match=r"a gemma3n_text model cannot be grafted; .*llama.* can"):
        grafted_config({"model_type": "gemma3n_text", "num_hidden_layers": 6}, LAYERS)
    mixture = {"model_type": "qwen2_moe", "num_hidden_layers": 6}
    for dense in ({"mlp_only_layers": [0]}, {"decoder_sparse_step": 2}):
        with pytest.raises(InputError, match="mixtures with dense layers cannot be grafted"):
            grafted_config(mixture | dense, LAYERS)


def test_one_shape_is_one_whichever_transformers_has_saved_it(tmp_path):
    made("llama", tmp_path / "new")
    new = json.loads((tmp_path / "new" / "config.json").read_text())
    old = {key: value for key, value in new.items() if key not in ("head_dim", "rope_parameters")}
    old |= {"head_dim": None, "rope_theta": 10000.0, "rope_scaling": None}
    refuse_unlike(old, new)
    with pytest.raises(InputError, match="rope_parameters is"):
        refuse_unlike(old | {"rope_theta": 500000.0}, new)
    with pytest.raises(InputError, match="head_dim is 16 in one and 8"):
        refuse_unlike(old | {"head_dim": 16}, new)


def test_a_method_is_called_by_its_own_name(tmp_path):
    assert "2312.15166" in method_of(depth_upscaled(6, 2), 6)
    assert "2312.15166" in method_of(depth_upscaled(6, 2, second=True), 6)
    assert "2401.02415" in method_of(block_expanded(6, 3), 6)
    assert method_of(depth_upscaled(6, 3), 6) == "layers in an order of one's own"
    assert method_of([Layer(0), Layer(0), Layer(5)], 6) == "layers in an order of one's own"
    made("llama", tmp_path / "base")
    (tmp_path / "home").mkdir()
    done = eot(tmp_path, "models", "graft", "build", "base", "--expand", "3", "--out", "wider")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "wider" / "README.md").read_text()
    for said in (done.stdout, card):
        assert "until then it answers exactly as what it was made from" in said
        assert "block expansion of LLaMA-Pro, arXiv 2401.02415" in said
        assert "worse" not in said
    assert "2401.02415" in json.loads((tmp_path / "wider" / "graft.json").read_text())["method"]
