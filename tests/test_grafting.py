"""Depth up-scaling: maps, checkpoints that plain transformers loads, and the plan, on small random models."""

import errno
import json
import os
import resource

import pytest
from command import eot
from weights import HOME, weights

from eot.errors import InputError, WeightsError
from local_models.grafting import Layer, block_expanded, build, depth_upscaled, parse_map, said
from local_models.grafting.sources import checkpoint_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
planning = pytest.importorskip("local_models.grafting.plan")
from safetensors.torch import load_file  # noqa: E402

pytestmark = pytest.mark.torch

COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
SLIDING = ["sliding_attention", "sliding_attention", "full_attention"] * 2


def made(kind, folder, **more):
    """A random model of this architecture, saved; [model, folder]."""
    extra = {
        "llama": {"tie_word_embeddings": True},
        "mistral": {"sliding_window": 4},
        "qwen2": {"layer_types": SLIDING, "use_sliding_window": True, "sliding_window": 4},
        "qwen3": {"head_dim": 8},
        "gemma3_text": {"layer_types": SLIDING, "sliding_window": 4, "head_dim": 8},
    }[kind]
    torch.manual_seed(more.pop("seed", 0))
    config = transformers.AutoConfig.for_model(kind, **(COMMON | extra | more))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(folder)
    return model


def loaded(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


IDS = torch.arange(12)[None] % 64


@torch.inference_mode()
def logits(model, ids=IDS, **options):
    return model(input_ids=ids, **options).logits


@torch.inference_mode()
def logits_by_steps(model, ids=IDS):
    """As `generate` reads: a token at a time, with the cache."""
    cache, rows = None, []
    for at in range(ids.shape[1]):
        out = model(input_ids=ids[:, at : at + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        rows.append(out.logits)
    return torch.cat(rows, dim=1)


def test_solars_map_drops_the_top_of_one_copy_and_the_bottom_of_the_other():
    assert said(depth_upscaled(32, 8)) == "0-23,8-31"
    assert len(depth_upscaled(32, 8)) == 48
    assert said(depth_upscaled(32, 8, second=True)) == "a:0-23,b:8-31"
    assert said(block_expanded(6, 2)) == "0-2,[2],3-5,[5]"
    assert parse_map("0-23,8-31", 32) == depth_upscaled(32, 8)
    assert parse_map("a:0-1,b:5", 6, second=True) == (Layer(0), Layer(1), Layer(5, source=1))


@pytest.mark.parametrize(
    ("text", "said_"),
    [
        ("0-32", "layers go from 0 to 31"),
        ("5-3", "the lower one first"),
        ("x", "is no range of layers"),
        ("", "is no range of layers"),
        ("b:0-3", "none was named"),
    ],
)
def test_a_map_that_cannot_be_is_refused(text, said_):
    with pytest.raises(InputError, match=said_):
        parse_map(text, 32)


@pytest.mark.parametrize("removed", [-1, 6])
def test_as_many_layers_as_there_are_cannot_be_removed(removed):
    with pytest.raises(InputError, match="0 to 5 can be removed"):
        depth_upscaled(6, removed)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"])
@pytest.mark.parametrize("removed", [0, 1, 2, 5])
def test_every_architecture_reads_alike_with_and_without_the_cache(tmp_path, kind, removed):
    made(kind, tmp_path / "base")
    built = build([tmp_path / "base"], depth_upscaled(6, removed), tmp_path / "graft")
    graft = loaded(built.folder)
    assert built.layers == graft.config.num_hidden_layers == 2 * (6 - removed)
    assert built.parameters == sum(one.numel() for one in graft.parameters())
    torch.testing.assert_close(logits_by_steps(graft), logits(graft, use_cache=False), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text"])
def test_the_identity_graft_is_the_base_and_the_expanded_one_reads_as_the_base_does(tmp_path, kind):
    base = made(kind, tmp_path / "base")
    same = build([tmp_path / "base"], [Layer(at) for at in range(6)], tmp_path / "same")
    torch.testing.assert_close(logits(loaded(same.folder)), logits(base), atol=0, rtol=0)
    wider = build([tmp_path / "base"], block_expanded(6, 3), tmp_path / "wider")
    torch.testing.assert_close(logits(loaded(wider.folder)), logits(base), atol=1e-6, rtol=1e-6)


def test_an_identity_zeroes_the_biases_of_what_a_layer_adds(tmp_path):
    base = made("llama", tmp_path / "base", attention_bias=True, mlp_bias=True)
    for name, parameter in base.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    base.save_pretrained(tmp_path / "base")
    wider = build([tmp_path / "base"], block_expanded(6, 3), tmp_path / "wider")
    torch.testing.assert_close(logits(loaded(wider.folder)), logits(base), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "older"),
    [
        ("gemma3_text", {"sliding_window_pattern": 3}),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 3}),
        ("qwen2", {"use_sliding_window": False, "max_window_layers": 3}),
    ],
)
def test_kinds_that_a_configuration_leaves_to_the_places_go_with_their_layers(tmp_path, kind, older):
    made(kind, tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    config = json.loads(path.read_text())
    config.pop("layer_types")
    path.write_text(json.dumps(config | older))
    kinds = transformers.AutoConfig.from_pretrained(tmp_path / "base").layer_types
    graft = build([tmp_path / "base"], depth_upscaled(6, 1), tmp_path / "graft").folder
    got = transformers.AutoConfig.from_pretrained(graft).layer_types
    assert got == [kinds[at] for at in (0, 1, 2, 3, 4, 1, 2, 3, 4, 5)]


def test_a_layer_keeps_its_own_kind_of_attention_wherever_it_comes_to_stand(tmp_path):
    made("gemma3_text", tmp_path / "base")
    build([tmp_path / "base"], depth_upscaled(6, 1), tmp_path / "graft")
    kinds = json.loads((tmp_path / "graft" / "config.json").read_text())["layer_types"]
    assert kinds == [SLIDING[at] for at in (0, 1, 2, 3, 4, 1, 2, 3, 4, 5)]


def test_two_models_of_one_shape_are_grafted_onto_each_other_and_others_are_refused(tmp_path):
    lower, upper = made("llama", tmp_path / "a"), made("llama", tmp_path / "b", seed=1)
    graft = loaded(build([tmp_path / "a", tmp_path / "b"], depth_upscaled(6, 2, second=True), tmp_path / "ab").folder)
    assert torch.equal(graft.model.layers[3].mlp.up_proj.weight, lower.model.layers[3].mlp.up_proj.weight)
    assert torch.equal(graft.model.layers[4].mlp.up_proj.weight, upper.model.layers[2].mlp.up_proj.weight)
    assert torch.equal(graft.model.embed_tokens.weight, lower.model.embed_tokens.weight)
    made("llama", tmp_path / "wide", hidden_size=64)
    with pytest.raises(InputError, match="hidden_size is 32 in one and 64 in the other"):
        build([tmp_path / "a", tmp_path / "wide"], depth_upscaled(6, 2, second=True), tmp_path / "no")
    made("llama", tmp_path / "far", rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    with pytest.raises(InputError, match="rope_"):
        build([tmp_path / "a", tmp_path / "far"], depth_upscaled(6, 2, second=True), tmp_path / "no")
    made("gemma3_text", tmp_path / "g")
    made("gemma3_text", tmp_path / "full", layer_types=["full_attention"] * 6)
    with pytest.raises(InputError, match="layer_types"):
        build([tmp_path / "g", tmp_path / "full"], depth_upscaled(6, 2, second=True), tmp_path / "no")


def test_the_card_says_where_a_graft_comes_from_and_that_it_is_not_healed(tmp_path):
    made("llama", tmp_path / "base")
    build([tmp_path / "base"], depth_upscaled(6, 2), tmp_path / "graft")
    lineage = json.loads((tmp_path / "graft" / "graft.json").read_text())
    assert (lineage["map"], lineage["layers"], lineage["healed"]) == ("0-3,2-5", 8, False)
    assert "not trained since" in (tmp_path / "graft" / "README.md").read_text()


def test_large_checkpoints_are_written_in_shards_that_transformers_reads(tmp_path, monkeypatch):
    base = made("llama", tmp_path / "base")
    monkeypatch.setattr("local_models.grafting.tensors.SHARD_BYTES", 20_000)
    built = build([tmp_path / "base"], [Layer(at) for at in range(6)], tmp_path / "graft")
    assert len(list(built.folder.glob("model-*.safetensors"))) > 2
    torch.testing.assert_close(logits(loaded(built.folder)), logits(base), atol=0, rtol=0)


def test_where_the_kernel_cannot_copy_between_two_files_the_bytes_are_the_same(tmp_path, monkeypatch):
    made("llama", tmp_path / "base")
    copied, copy = [], os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda *how: copied.append(copy(*how)) or copied[-1])
    quick = build([tmp_path / "base"], depth_upscaled(6, 2), tmp_path / "quick").folder
    assert sum(copied) == sum(tensor.numel() * 4 for tensor in load_file(quick / "model.safetensors").values())

    def refuses(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuses)
    plain = build([tmp_path / "base"], depth_upscaled(6, 2), tmp_path / "plain").folder
    assert (plain / "model.safetensors").read_bytes() == (quick / "model.safetensors").read_bytes()


def test_what_is_there_is_not_overwritten_and_a_full_disk_leaves_nothing_half_made(tmp_path):
    made("llama", tmp_path / "base")
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="exists already"):
        build([tmp_path / "base"], depth_upscaled(6, 2), tmp_path / "taken")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(WeightsError, match="nothing is left"):
            build([tmp_path / "base"], depth_upscaled(6, 2), tmp_path / "graft")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "taken"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b'\x10\0\0\0\0\0\0\0{"a": 1}', b"\x02\0\0\0\0\0\0\0[]"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, content):
    made("llama", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        build([tmp_path / "base"], depth_upscaled(6, 2), tmp_path / "graft")
    assert not (tmp_path / "graft").exists()


class Letters:
    """A tokenizer of the 64 letters that the random models know."""

    def encode(self, text, **_):
        return [ord(letter) % 64 for letter in text]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text"])
def test_the_plans_loss_is_that_of_the_graft_once_built_and_the_model_stays_as_it_was(tmp_path, kind):
    base = made(kind, tmp_path / "base")
    before = logits(base)
    text = "The quick brown fox jumps over the lazy dog. " * 5
    found = planning.plan(base, Letters(), text, [0, 1, 2])
    torch.testing.assert_close(logits(base), before, atol=0, rtol=0)
    assert [graft.layers for graft in found.grafts] == [12, 10, 8]
    assert found.recommended == min(found.grafts, key=lambda graft: graft.loss).removed
    built = loaded(build([tmp_path / "base"], depth_upscaled(6, 1), tmp_path / "graft").folder)
    ids = [torch.tensor(Letters().encode(text))]
    assert planning.mean_loss(built, ids) == pytest.approx(found.grafts[1].loss, abs=1e-5)
    assert found.grafts[1].parameters == sum(one.numel() for one in built.parameters())
    with pytest.raises(InputError, match="too short"):
        planning.plan(base, Letters(), "a", [1])


def test_the_command_plans_and_builds_from_a_folder_and_says_how_to_use_it(tmp_path):
    made("llama", tmp_path / "base", vocab_size=256)
    refused = eot(tmp_path, "models", "graft", "build", str(tmp_path / "base"), "--out", "graft")
    assert refused.returncode == 2
    assert "say which layers in one way: --m 8" in refused.stderr
    done = eot(tmp_path, "models", "graft", "build", str(tmp_path / "base"), "--m", "2", "--out", "graft")
    assert done.returncode == 0, done.stderr
    assert "8 layers (0-3,2-5)" in done.stdout
    assert loaded(tmp_path / "graft").config.num_hidden_layers == 8


@pytest.mark.llm
def test_a_real_models_plan_shows_that_m_matters(tmp_path):
    folder = str(checkpoint_of("smollm2-135m", HOME) if weights("smollm2-135m") else "")
    words = ("models", "graft", "plan", folder, "--m", "5", "--m", "8", "--plot", "plan.png", "--json")
    done = eot(tmp_path, *words, timeout=250)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    at = {graft["removed"]: graft for graft in found["grafts"]}
    assert (at[8]["layers"], at[8]["parameters"]) == (44, 184_076_352)
    assert found["base"]["loss"] < at[8]["loss"] < at[5]["loss"] - 1
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
