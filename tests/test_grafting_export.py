"""A graft as a GGUF file: the same numbers within its kind's rounding, and llama.cpp runs it."""

import json

import pytest
from command import eot
from test_grafting import made
from weights import HOME, weights

from eot.errors import InputError, WeightsError
from local_models.grafting import Layer, build
from local_models.grafting.sources import checkpoint_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")
from safetensors import safe_open  # noqa: E402

from local_models.grafting.export import export  # noqa: E402

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
