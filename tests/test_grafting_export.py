"""A graft as a GGUF file: the same numbers within its kind's rounding, and llama.cpp runs it."""

import json

import numpy as np
import pytest
from command import eot
from test_grafting import made
from weights import HOME, weights

from eot.errors import InputError, WeightsError
from local_models.grafting import Layer, build, depth_upscaled
from local_models.grafting.sources import checkpoint_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")
import tiny  # noqa: E402
from safetensors import safe_open  # noqa: E402

from local_models.grafting.export import KINDS, export  # noqa: E402

pytestmark = pytest.mark.torch


def test_what_cannot_be_exported_is_refused_in_words(tmp_path):
    made("gemma3_text", tmp_path / "gemma")
    with pytest.raises(InputError, match="a gemma3_text model cannot be exported"):
        export(tmp_path / "gemma", tmp_path / "x.gguf", tmp_path / "out.gguf")
    made("llama", tmp_path / "llama")
    with pytest.raises(WeightsError, match="is no GGUF file"):
        export(tmp_path / "llama", tmp_path / "x.gguf", tmp_path / "out.gguf")
    with pytest.raises(InputError, match="'q1' is no kind of weights"):
        export(tmp_path / "llama", tmp_path / "x.gguf", tmp_path / "out.gguf", "q1")
    assert not (tmp_path / "out.gguf").exists()


COARSE = {"f16": 2000, "q8_0": 200, "q5_0": 15, "q4_0": 7}
"""A block's greatest number by the greatest error of its rounding and of its scale's, at least."""


def like(file, architecture="llama", tokens=64, **more):
    """A GGUF without weights, but for Llama 3.1's factors: what is known of a model beside them."""
    writer = gguf.GGUFWriter(file, architecture)
    said = {"embedding_length": 32, "feed_forward_length": 48, "block_count": 6, "context_length": 64}
    said |= {"attention.head_count": 4, "attention.head_count_kv": 2}
    for key, value in (said | more).items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.rope.freq_base", 10000.0)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{at}" for at in range(tokens)])
    writer.add_chat_template("{{ old }}")
    writer.add_tensor("rope_freqs.weight", np.array([1, 2, 4, 8], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def plain(told):
    """[rows, columns] float32, or a vector, of a tensor of the file."""
    return torch.from_numpy(np.array(gguf.quants.dequantize(told.data, told.tensor_type), dtype=np.float32))


def rotated(tensor, heads):
    """As ggml has q and k: the two halves of each head interleaved."""
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_deeper_graft_is_written_layer_by_layer_within_its_kinds_rounding(tmp_path, architecture, kind):
    more = {"attention_bias": True} if architecture == "llama" else {"layer_types": ["full_attention"] * 6}
    base = made(architecture, tmp_path / "base", **more)
    for name, parameter in base.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    base.save_pretrained(tmp_path / "base")
    build([tmp_path / "base"], depth_upscaled(6, 2), tmp_path / "graft")
    size = export(tmp_path / "graft", like(tmp_path / "like.gguf", architecture), tmp_path / "out.gguf", kind)
    assert size == (tmp_path / "out.gguf").stat().st_size
    file = gguf.GGUFReader(tmp_path / "out.gguf")
    assert file.fields[f"{architecture}.block_count"].contents() == 8
    assert len(file.fields["tokenizer.ggml.tokens"].contents()) == 64
    written = {each.name: each for each in file.tensors}
    assert {int(name.split(".")[1]) for name in written if name.startswith("blk.")} == set(range(8))
    assert np.array_equal(written["rope_freqs.weight"].data, [1, 2, 4, 8])
    layer = base.model.layers[3]  # 0-3,2-5: the sixth layer is the fourth
    for name, module in (("attn_q", layer.self_attn.q_proj), ("attn_k", layer.self_attn.k_proj)):
        heads = 4 if name == "attn_q" else 2
        for part in ("weight", "bias"):
            wanted = getattr(module, part).detach()
            wanted = rotated(wanted, heads) if architecture == "llama" else wanted
            near = 0.0 if part == "bias" else float(wanted.abs().max()) / COARSE[kind]
            torch.testing.assert_close(plain(written[f"blk.5.{name}.{part}"]), wanted, atol=near, rtol=0)
    assert written["blk.5.attn_q.weight"].tensor_type.name == kind.upper()
    wanted = layer.mlp.up_proj.weight.detach()
    near = float(wanted.abs().max()) / COARSE[kind]
    torch.testing.assert_close(plain(written["blk.5.ffn_up.weight"]), wanted, atol=near, rtol=0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"embedding_length": 64}, "its embedding_length is 64, the model's 32"),
        ({"feed_forward_length": 64}, "its feed_forward_length is 64, the model's 48"),
        ({"attention.head_count": 8}, "its attention.head_count is 8, the model's 4"),
        ({"attention.head_count_kv": 4}, "its attention.head_count_kv is 4, the model's 2"),
        ({"tokens": 65}, "its vocab_size is 65, the model's 64"),
    ],
)
def test_a_gguf_of_another_shape_is_refused_with_both_numbers(tmp_path, more, said):
    made("llama", tmp_path / "base")
    with pytest.raises(WeightsError, match=said):
        export(tmp_path / "base", like(tmp_path / "like.gguf", **more), tmp_path / "out.gguf")


def test_a_model_that_was_given_a_chat_template_keeps_it(tmp_path):
    tiny.model(tmp_path / "base", layers=6)
    told = like(tmp_path / "like.gguf", tokens=257)
    for name, chat in (("with", True), ("without", False)):
        tiny.tokenizer(chat=chat).save_pretrained(tmp_path / "base")
        if not chat:
            (tmp_path / "base" / "chat_template.jinja").unlink(missing_ok=True)
        export(tmp_path / "base", told, tmp_path / f"{name}.gguf")
        template = gguf.GGUFReader(tmp_path / f"{name}.gguf").fields["tokenizer.chat_template"].contents()
        assert template == (tiny.TEMPLATE if chat else "{{ old }}")


def test_a_fault_of_any_sort_leaves_no_part_of_the_file(tmp_path, monkeypatch):
    def fails(*_):
        assert (tmp_path / ".out.gguf.part").is_file()
        raise RuntimeError("of no class of ours")

    made("llama", tmp_path / "base")
    monkeypatch.setattr(gguf.quants, "quantize", fails)
    with pytest.raises(RuntimeError, match="of no class of ours"):
        export(tmp_path / "base", like(tmp_path / "like.gguf"), tmp_path / "out.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "like.gguf"]


@pytest.mark.llm
def test_a_real_model_is_written_with_its_own_weights_and_answers_in_llama_cpp(tmp_path):
    like = weights("smollm2-135m")
    same = build([checkpoint_of("smollm2-135m", HOME)], [Layer(at) for at in range(30)], tmp_path / "same")
    words = ("models", "graft", "export", "same", "--like", str(like))
    told = eot(tmp_path, *words, "--name", "same-q8", "--json")
    assert told.returncode == 0, told.stderr
    file = tmp_path / "home" / "built" / "same-q8.gguf"
    assert json.loads(told.stdout)["bytes"] == file.stat().st_size < 150_000_000
    assert "there is a model called same-q8 already" in eot(tmp_path, *words, "--name", "same-q8").stderr
    listed = {row["name"]: row for row in json.loads(eot(tmp_path, "models", "list", "--json").stdout)}["same-q8"]
    assert (listed["chat"], listed["context_tokens"], listed["on_disk"]) == (True, 8192, str(file))
    written = {each.name: each for each in gguf.GGUFReader(file).tensors}
    with safe_open(same.folder / "model.safetensors", "pt") as source:
        for name, theirs in (("self_attn.q_proj", "attn_q"), ("mlp.down_proj", "ffn_down")):
            told = written[f"blk.7.{theirs}.weight"]
            plain = torch.from_numpy(gguf.quants.dequantize(told.data, told.tensor_type))
            if theirs == "attn_q":  # ggml has the two halves of each head interleaved
                plain = plain.reshape(9, 32, 2, 576).transpose(1, 2).reshape(576, 576)
            wanted = source.get_tensor(f"model.layers.7.{name}.weight").float()
            torch.testing.assert_close(plain, wanted, atol=float(wanted.abs().max()) / 250, rtol=0)
    (tmp_path / "eot.toml").write_text(
        '[agents.a]\nmodel = "local/same-q8"\ntemperature = 0\nmax_tokens = 24\n[councils.default]\nagents = ["a"]\n'
    )
    asked = eot(tmp_path, "ask", "What is the capital of France?", "--json", timeout=250)
    assert "Paris" in asked.stdout, asked.stderr
    assert eot(tmp_path, "models", "rm", "same-q8").returncode == 0
    assert not file.exists()
