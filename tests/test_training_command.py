"""`eot models graft heal|teach|align` on tiny random models: the curve, what is written, what is refused."""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
from hashlib import sha256

import pytest
from command import EOT, environment, eot

from api.training import _one_gpu, steps_of
from eot.errors import InputError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
import tiny  # noqa: E402
from training_place import HEAL, MARKS, TEXT, losses, made, runner  # noqa: E402

from local_models.training.windows import held_out  # noqa: E402

pytestmark = MARKS


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return made(tmp_path_factory.mktemp("training"))


@pytest.fixture
def done(place, monkeypatch, capsys):
    return runner(place, monkeypatch, capsys)


def test_a_graft_heals_beside_its_control_on_the_same_windows_and_is_an_ordinary_model(place, done):
    said = done("heal", "deep", *HEAL, "--steps", "24", "--control", "base", "--out", "healed", "--json")
    told = json.loads(said)["runs"]
    assert told["model"]["loss_after"] < told["model"]["loss_before"] - 0.5
    assert told["model"]["tokens"] == told["control"]["tokens"] == 24 * 4 * 32
    assert (place / "healed" / "curve.png").read_bytes().startswith(b"\x89PNG")
    healed = transformers.AutoModelForCausalLM.from_pretrained(place / "healed")
    assert healed.config.num_hidden_layers == 6
    lineage = json.loads((place / "healed" / "training.json").read_text())
    assert [(each["stage"], each["source"], each["steps"]) for each in lineage] == [("heal", "deep", 24)]
    assert lineage[0]["data_sha256"] == sha256((place / "c.txt").read_bytes()).hexdigest()
    assert lineage[0]["weights_sha256"] == [sha256((place / "deep" / "model.safetensors").read_bytes()).hexdigest()]
    assert json.loads((place / "healed" / "graft.json").read_text())["healed"] is True
    assert (
        (place / "healed" / "README.md")
        .read_text()
        .startswith("# healed\n\n- a graft of base: layers 0-2,1-3\n- heal of deep: 24 steps, c.txt\n")
    )
    assert not (place / ".healed.training").exists()


def test_adapters_are_merged_into_what_is_written(place, done):
    done("heal", "deep", *HEAL, "--steps", "8", "--lora", "4", "--out", "adapted")
    held = json.loads((place / "adapted" / "curve.json").read_text())["model"]["held"]
    model = transformers.AutoModelForCausalLM.from_pretrained(place / "adapted")
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    tokens = tiny.tokenizer()
    rows = held_out([place / "c.txt"], lambda text: tokens(text)["input_ids"], 0, 32, 4)
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor(rows), labels=torch.tensor(rows)).loss
    assert float(loss) == pytest.approx(held[-1]["loss"], abs=1e-3)


def test_a_base_is_taught_to_answer_and_aligned_to_prefer_the_better_answer(place, done):
    numbers = range(40)
    taught = [{"question": f"What is {n} + 1?", "answer": f"{n + 1}."} for n in numbers]
    paired = [{"prompt": f"What is {n} + 1?", "chosen": f"{n + 1}.", "rejected": "Who knows"} for n in numbers]
    for name, rows in (("examples.jsonl", taught), ("pairs.jsonl", paired)):
        (place / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny.model(place / "untaught", chat=False)
    how = ("--steps", "12", "--every", "6", "--learning-rate", "0.01", "--length", "64", "--json")
    told = json.loads(done("teach", "untaught", "--examples", "examples.jsonl", "--out", "taught", *how))
    assert told["runs"]["model"]["loss_after"] < told["runs"]["model"]["loss_before"]
    template = transformers.AutoTokenizer.from_pretrained(place / "taught").chat_template
    assert "### " in template, "a base has none, and gets SOLAR's"
    told = json.loads(done("align", "taught", "--pairs", "pairs.jsonl", "--out", "aligned", *how))["runs"]["model"]
    assert told["rewards/margins_before"] == 0
    assert told["rewards/margins_after"] > 0.05
    assert told["loss_before"] == pytest.approx(0.6931, abs=1e-3), "DPO's loss begins at log 2"
    lineage = json.loads((place / "aligned" / "training.json").read_text())
    assert [each["stage"] for each in lineage] == ["teach", "align"]


@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes want two GPUs, or none")
def test_two_processes_with_half_a_batch_each_have_the_losses_of_one_with_the_whole(place, done):
    more = ("--steps", "6", "--seed", "3")
    done("heal", "deep", *HEAL, *more, "--batch", "4", "--out", "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", port)
    words = (EOT, "models", "graft", "heal", "deep", *HEAL, *more, "--batch", "2", "--out", "together", "--json")
    run = subprocess.run(
        [sys.executable, "-m", *launched, *words],
        cwd=place,
        env=environment(place / "home", OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["runs"]["model"]["tokens"] == 6 * 4 * 32
    assert losses(place / "together") == [pytest.approx(row, abs=1e-4) for row in losses(place / "alone")]


def test_a_command_that_failed_before_its_first_checkpoint_stands_in_nobodys_way(place, done):
    (place / "short.txt").write_text("Too short.")
    words = ("--length", "32", "--steps", "4", "--out", "second-try")
    with pytest.raises(InputError, match="less than two windows"):
        done("heal", "deep", "--corpus", "short.txt", *words)
    done("heal", "deep", "--corpus", "c.txt", *words)
    assert (place / "second-try" / "config.json").is_file()


def test_two_commands_do_not_train_one_model_at_a_time(place, done):
    work = place / ".taken.training"
    work.mkdir()
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is training taken"):
            done("heal", "deep", *HEAL, "--steps", "4", "--out", "taken")


def test_lines_that_were_passed_over_are_counted_once_and_other_files_are_said(place, done):
    folder = place / "texts"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(["{", *(json.dumps({"text": TEXT[at:][:300]}) for at in range(40))]))
    (folder / "b.json").write_text(json.dumps({"text": TEXT}) + "\n")
    (folder / "c.parquet").write_bytes(b"PAR1")
    how = (*HEAL[2:], "--steps", "2", "--progress", str(place / "counted.progress"))
    done("heal", "deep", "--corpus", "texts", *how, "--out", "counted")
    last = json.loads((place / "counted.progress").read_text().splitlines()[-1])
    assert (last["passed_over_lines"], last["damaged_files"], last["passed_over_files"]) == (1, 0, 1)


def test_a_host_with_several_gpus_trains_on_the_first_and_says_how_to_use_all(monkeypatch, caplog):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with caplog.at_level(logging.WARNING):
        _one_gpu()
    assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0"
    assert "--num_processes 4" in caplog.text
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    _one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    _one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_tokens_are_those_of_all_processes_and_not_exceeded(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert [steps_of(0, tokens, 100) for tokens in (0, 1, 199, 200)] == [0, 1, 1, 2]
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert steps_of(0, 1200, 100) == 3
    with pytest.raises(InputError, match="in one way"):
        steps_of(1, 1, 1)


def test_removing_a_name_frees_what_a_training_that_was_broken_off_has_left(tmp_path):
    work = tmp_path / "home" / "built" / ".half.training"
    (work / "model" / "checkpoint-4").mkdir(parents=True)
    (work / "model" / "checkpoint-4" / "weights").write_bytes(b"0" * 1000)
    told = eot(tmp_path, "models", "rm", "half", "--json")
    assert json.loads(told.stdout) == [{"name": "half", "freed_bytes": 1000}]
    assert not work.exists()
