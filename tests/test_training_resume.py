"""Trainings that broke off: what survives, what is gone on with, and what is not."""

import json
import os
import resource
import signal
import subprocess
import time

import pytest
from command import EOT, environment

from api.broken_off import begin
from eot.errors import DiskFullError, InputError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
import tiny  # noqa: E402
from training_place import HEAL, MARKS, TEXT, losses, made, runner  # noqa: E402

from local_models.training.checkpoints import last_whole, mark, seconds_of  # noqa: E402

pytestmark = MARKS


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return made(tmp_path_factory.mktemp("training"))


@pytest.fixture
def done(place, monkeypatch, capsys):
    return runner(place, monkeypatch, capsys)


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


def test_raised_steps_are_trained_though_only_the_control_was_broken_off(place, done, monkeypatch):
    words = ("heal", "deep", *HEAL, "--control", "base", "--out", "raised", "--json")
    with monkeypatch.context() as patched:
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


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_run_that_had_ended_when_its_disk_was_full_is_written_and_not_trained_further(place, done, monkeypatch):
    words = ("heal", "deep", *HEAL, "--steps", "8", "--lora", "4", "--json")
    straight = json.loads(done(*words, "--out", "ended-straight"))["runs"]["model"]
    with monkeypatch.context() as patched:
        patched.setattr("local_models.training.finish._carry", full)
        with pytest.raises(DiskFullError, match="the checkpoints are whole"):
            done(*words, "--out", "ended")
    with monkeypatch.context() as patched:
        patched.setattr("local_models.training.checkpoints.write_whole", full)
        with pytest.raises(DiskFullError, match=r"model\.json cannot be written"):
            done(*words, "--out", "ended")
    told = json.loads(done(*words, "--out", "ended"))["runs"]["model"]
    assert told | {"seconds": 0} == straight | {"seconds": 0}
    ours, theirs = (
        transformers.AutoModelForCausalLM.from_pretrained(place / name) for name in ("ended", "ended-straight")
    )
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, theirs.state_dict()[name], rtol=0, atol=0)


def test_lowered_steps_end_a_run_with_what_was_done(place, done):
    words = ("heal", "deep", *HEAL, "--out", "lowered")
    broken_off(done, *words, "--steps", "24")
    done(*words, "--steps", "4")
    assert len(losses(place / "lowered")) == 12


def test_a_model_whose_weights_have_changed_is_not_gone_on_with(place, done):
    tiny.model(place / "changing")
    words = ("heal", "changing", *HEAL, "--steps", "24", "--out", "changed")
    broken_off(done, *words)
    tiny.model(place / "changing", seed=1)
    with pytest.raises(InputError, match="had begun with a model whose weights have changed since"):
        done(*words)


def test_a_mark_that_fills_the_disk_leaves_the_checkpoint_before_it_in_use(tmp_path):
    for step in (4, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model").write_text("weights")
    mark(tmp_path, 4, 1.5)
    (tmp_path / "checkpoint-8").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            mark(tmp_path, 8, 3.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-4"
    assert seconds_of(tmp_path / "checkpoint-4") == 1.5


def test_what_was_asked_stays_whole_on_a_full_disk(tmp_path, monkeypatch):
    begin(tmp_path, {"seed": 1, "steps": 4}, restart=False)
    (tmp_path / "model.json").write_text("{}")
    monkeypatch.setattr("api.broken_off.write_whole", full)
    begin(tmp_path, {"seed": 1, "steps": 4}, restart=False)
    with pytest.raises(DiskFullError, match="what was there stands"):
        begin(tmp_path, {"seed": 1, "steps": 8}, restart=False)
    assert json.loads((tmp_path / "asked.json").read_text()) == {"seed": 1, "steps": 4}
