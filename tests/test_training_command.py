"""`eot models graft heal|teach|align` on tiny random models: the curve, what survives, what is gone on with."""

import fcntl
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from hashlib import sha256

import pytest
from command import EOT, environment

from api.cli import app
from api.training import _one_gpu
from eot.errors import DiskFullError, InputError
from local_models.grafting import build, depth_upscaled

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
import tiny  # noqa: E402

from local_models.training.checkpoints import mark  # noqa: E402
from local_models.training.windows import held_out  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft asks by the old name
]

TEXT = "".join(f"Box {n} holds {n * n} pens, and {n} more lie on the shelf.\n" for n in range(600))
HEAL = ("--corpus", "c.txt", "--length", "32", "--every", "4", "--held", "4", "--learning-rate", "0.003")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base, a graft of it, and a corpus."""
    folder = tmp_path_factory.mktemp("training")
    tiny.model(folder / "base")
    build([folder / "base"], depth_upscaled(4, 1), folder / "deep")
    (folder / "c.txt").write_text(TEXT)
    return folder


@pytest.fixture
def done(place, monkeypatch, capsys):
    """Runs the command in this process: to import torch and trl takes longer than to train."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("EOT_HOME", str(place / "home"))
    torch.set_num_threads(1)

    def run(*words):
        app(["models", "graft", *map(str, words)], standalone_mode=False)
        return capsys.readouterr().out

    return run


def losses(folder, who="model"):
    return json.loads((folder / "curve.json").read_text())[who]["trained"]


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


def test_a_run_that_is_killed_goes_on_with_the_same_losses(place, done):
    words = ("heal", "deep", *HEAL, "--steps", "24")
    done(*words, "--out", "straight")
    progress = place / "killed.progress"
    with subprocess.Popen(
        [str(EOT), "models", "graft", *words, "--out", "killed", "--progress", str(progress)],
        cwd=place,
        env=environment(place / "home", OMP_NUM_THREADS="1"),
        stderr=subprocess.DEVNULL,
    ) as run:
        ends = time.monotonic() + 100
        while not progress.exists() or '"step": 14' not in progress.read_text():
            assert time.monotonic() < ends
            assert run.poll() is None
            time.sleep(0.005)
        os.kill(run.pid, signal.SIGKILL)
    assert not (place / "killed").exists()
    assert list((place / ".killed.training" / "model").glob("checkpoint-*/whole"))
    with pytest.raises(InputError, match=r"had begun with another seed \(0\): say the same .*, or --restart"):
        done(*words, "--seed", "1", "--out", "killed")
    done(*words, "--out", "killed", "--progress", str(place / "second.progress"))
    first = json.loads((place / "second.progress").read_text().splitlines()[0])
    assert first["step"] >= 12, "it went on from a checkpoint, and not from the beginning"
    assert losses(place / "killed") == losses(place / "straight")


def test_a_disk_that_fills_up_in_a_checkpoint_leaves_the_one_before_it_whole(place, done, monkeypatch):
    words = ("heal", "deep", *HEAL, "--out", "full")
    done(*words, "--steps", "4")
    straight = losses(place / "full")
    (place / "full").rename(place / "was-full")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def then_full(*told):
        mark(*told)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))

    with monkeypatch.context() as patched:
        patched.setattr("local_models.training.fit.mark", then_full)
        try:
            with pytest.raises(DiskFullError, match="the one before it is whole: make room, and run it again"):
                done(*words, "--steps", "12")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    work = place / ".full.training" / "model"
    assert [mark.parent.name for mark in work.glob("checkpoint-*/whole")] == ["checkpoint-4"]
    done(*words, "--steps", "12")
    assert losses(place / "full")[:4] == straight
    assert len(losses(place / "full")) == 12


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


class GoneError(BaseException):
    """The machine is lost."""


def broken_off(done, *words, step=14):
    """Ends the training of this command in this process after a step, as a lost machine would."""

    def then_gone(self, args, state, *_, **__):
        if state.global_step >= step:
            raise GoneError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("local_models.training.fit._Around.on_step_begin", then_gone, raising=False)
        with pytest.raises(GoneError):
            done(*words)


def test_what_was_broken_off_goes_on_with_its_own_data_only_and_can_be_thrown_away(place, done):
    (place / "d.txt").write_text(TEXT)
    words = ("heal", "deep", *(word.replace("c.txt", "d.txt") for word in HEAL), "--steps", "24", "--out", "off")
    broken_off(done, *words)
    (place / "d.txt").write_text(TEXT.replace("pens", "pins"))
    with pytest.raises(InputError, match="had begun with other data: say the same"):
        done(*words)
    done(*words, "--restart", "--progress", str(place / "off.progress"))
    told = [json.loads(line) for line in (place / "off.progress").read_text().splitlines()]
    assert min(each["step"] for each in told if "step" in each) == 0
    assert len(losses(place / "off")) == 24


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


def test_raised_steps_are_trained_though_only_the_control_was_broken_off(place, done, monkeypatch):
    words = ("heal", "deep", *HEAL, "--control", "base", "--out", "raised", "--json")
    with monkeypatch.context() as patched:
        patched.setattr("local_models.training.finish._carry", lambda *_: None)
        real = __import__("api.training", fromlist=["_run"])._run

        def first_only(asked, source, work, tell, out, **more):
            if out is None:
                raise GoneError
            return real(asked, source, work, tell, out, **more)

        patched.setattr("api.training._run", first_only)
        with pytest.raises(GoneError):
            done(*words, "--steps", "8")
    assert json.loads((place / ".raised.training" / "model.json").read_text())["curve"]["steps"] == 8
    runs = json.loads(done(*words, "--steps", "12"))["runs"]
    assert {who: run["steps"] for who, run in runs.items()} == {"model": 12, "control": 12}
    straight = json.loads(done("heal", "deep", *HEAL, "--steps", "12", "--out", "straight-12", "--json"))["runs"]
    assert runs["model"]["loss_after"] == straight["model"]["loss_after"]


@pytest.mark.parametrize(
    ("stage", "option", "row"),
    [
        ("teach", "--examples", {"question": "What is {} + 1?", "answer": "{}!"}),
        ("align", "--pairs", {"prompt": "What is {} + 1?", "chosen": "{}!", "rejected": "Who knows {}"}),
    ],
)
def test_teaching_and_aligning_go_on_with_the_same_losses(place, done, stage, option, row):
    rows = [{key: text.format(n) for key, text in row.items()} for n in range(40)]
    (place / f"{stage}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    how = ("--steps", "10", "--every", "4", "--learning-rate", "0.01", "--length", "64", "--batch", "2")
    words = (stage, "deep", option, f"{stage}.jsonl", *how)
    done(*words, "--out", f"{stage}-straight")
    broken_off(done, *words, "--out", f"{stage}-off", step=6)
    done(*words, "--out", f"{stage}-off")
    assert losses(place / f"{stage}-off") == losses(place / f"{stage}-straight")
    assert len(losses(place / f"{stage}-off")) == 10


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
