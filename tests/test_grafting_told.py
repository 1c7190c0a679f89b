"""What is told of trainings and of models that were made here: rows too long, dtypes, tokens, damage."""

import json

import pytest
from test_built import put

from api.cli import app
from api.curves import curve_of
from eot.errors import InputError


def test_a_run_that_went_on_after_its_first_step_counts_all_its_tokens():
    rows = [{"step": 1, "loss": 2.0, "num_tokens": 512}, {"step": 2, "loss": 1.5, "num_tokens": 512}]
    curve = curve_of([*rows, {"step": 3, "loss": 1.0, "num_tokens": 1024}], 1.0)
    assert [row[1] for row in curve.trained] == [512, 1024, 1536]
    assert curve.tokens == 1536


def test_a_damaged_model_is_told_in_its_row_and_the_others_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EOT_HOME", str(tmp_path))
    put(tmp_path, "whole")
    (put(tmp_path, "bad") / "config.json").write_text("{")
    (tmp_path / "built" / "broken.gguf").write_bytes(b"GGUF")
    app(["models", "list", "--json"], standalone_mode=False)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert "damaged" not in rows["whole"]
    assert "broken.gguf is not a sound GGUF file" in rows["broken"]["damaged"]
    assert rows["bad"]["damaged"]
    monkeypatch.setenv("COLUMNS", "400")
    app(["models", "list"], standalone_mode=False)
    assert "damaged" in capsys.readouterr().out


ROWS = {
    "teach": {"question": "What is {} + 1?{}", "answer": "{}!"},
    "align": {"prompt": "What is {} + 1?{}", "chosen": "{}!", "rejected": "Who knows {}"},
}


@pytest.fixture
def tuned(tmp_path):
    """Tunes a tiny bfloat16 model two steps on 20 rows, of which 5 have a prompt of 100 letters and more."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("trl")
    import tiny  # noqa: PLC0415

    from local_models.training import tune  # noqa: PLC0415
    from local_models.training.finish import write_model  # noqa: PLC0415
    from local_models.training.loading import load_for_training  # noqa: PLC0415
    from local_models.training.recipe import Recipe  # noqa: PLC0415

    torch.set_num_threads(1)
    tiny.model(tmp_path / "base").to(torch.bfloat16).save_pretrained(tmp_path / "base")

    def run(stage, length, out=None):
        rows = [
            {key: text.format(at, "?" * 100 * (at % 4 == 1)) for key, text in ROWS[stage].items()} for at in range(20)
        ]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        told = {}
        recipe = Recipe(steps=2, length=length, batch=2, held=2, warmup=0)
        model, tokenizer, dtype = load_for_training(tmp_path / "base")
        step = getattr(tune, stage)
        trainer, _ = step(model, tokenizer, [tmp_path / "rows.jsonl"], recipe, tmp_path / "work", told.update)
        if out:
            lineage = {"source": "base", "stage": stage, "steps": 2, "data": "rows.jsonl"}
            write_model(trainer, tmp_path / "base", tmp_path / out, lineage, dtype, out)
        return told

    return run


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("stage", ["teach", "align"])
def test_rows_whose_prompt_fills_the_length_are_counted_and_none_left_is_said_in_words(tuned, stage):
    with pytest.raises(InputError, match=r"20 of 20 rows have prompts of 8 tokens or more.* take a greater --length"):
        tuned(stage, 8)
    told = tuned(stage, 64)
    assert (told["rows"], told["held"], told["too_long_rows"]) == (13, 2, 5)


@pytest.mark.torch
def test_a_model_is_written_in_its_sources_dtype_and_says_so(tuned, tmp_path):
    from safetensors.torch import load_file  # noqa: PLC0415

    tuned("teach", 64, "taught")
    stored = load_file(tmp_path / "taught" / "model.safetensors").values()
    assert {str(tensor.dtype) for tensor in stored} == {"torch.bfloat16"}
    assert json.loads((tmp_path / "taught" / "training.json").read_text())[0]["dtype"] == "bfloat16"
    assert "measured in float32, written as bfloat16" in (tmp_path / "taught" / "README.md").read_text()
