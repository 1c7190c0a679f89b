"""Healing, teaching and aligning, by trl on tiny random models: the curve, what is read, what survives."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from itertools import chain

import pytest
from command import EOT, environment

from api.cli import app
from eot.errors import DiskFullError, InputError
from local_models.grafting import build, depth_upscaled

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
import tiny  # noqa: E402

from local_models.training.checkpoints import mark  # noqa: E402
from local_models.training.corpus import Passed, files_of, pieces  # noqa: E402
from local_models.training.rows import examples, pairs, parted  # noqa: E402
from local_models.training.windows import EVERY, held_out, trained_on, windows  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft asks by the old name
]

TEXT = "".join(f"Box {n} holds {n * n} pens, and {n} more lie on the shelf.\n" for n in range(600))
HEAL = ("--corpus", "c.txt", "--length", "32", "--every", "4", "--held", "4", "--learning-rate", "0.003")


def encode(text):
    return [ord(letter) % 256 + 1 for letter in text]


def text_of(file):
    passed = Passed()
    return [(piece.text, piece.ends) for piece in pieces([file], passed)], passed


def test_a_corpus_with_empty_lines_bad_bytes_and_a_line_of_10_mb_is_read_and_said_to_be_so(tmp_path):
    file = tmp_path / "c.jsonl"
    long = "ab" * 5_000_000
    rows = [b'{"text": "one"}', b"", b"\xff\xfe", b'{"text": ""}', b"{", b'["no"]', b'"two"', b'{"text": 7}']
    file.write_bytes(b"\n".join([*rows, json.dumps({"text": long}).encode()]))
    found, passed = text_of(file)
    assert found[:2] == [("one", True), ("two", True)]
    assert [ends for _, ends in found[2:]] == [False] * (len(found) - 3) + [True]
    assert "".join(text for text, _ in found[2:]) == long
    assert max(len(text) for text, _ in found) <= 1 << 15
    assert (passed.lines, passed.files) == (6, 0)
    plain = tmp_path / "c.txt"
    plain.write_bytes("\n\nüber ".encode() + b"\xff\n" + b"x" * 10_000_000)
    found, passed = text_of(plain)
    assert "".join(text for text, _ in found).startswith("\n\nüber \ufffd\n")
    assert sum(len(text) for text, _ in found) == 10_000_009
    assert passed.files == 1
    assert found[-1][1]


def test_a_folder_is_its_text_files_and_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "b.py").write_text("b = 1")
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "c.png").write_bytes(b"\x89")
    assert [file.name for file in files_of([tmp_path])] == ["a.md", "b.py"]
    with pytest.raises(InputError, match="there is no file or folder"):
        files_of([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has none of"):
        files_of([tmp_path / "empty"])


def test_windows_are_the_documents_end_to_end_and_those_held_out_are_never_trained_on(tmp_path):
    file = tmp_path / "c.txt"
    file.write_text(TEXT)
    whole = list(windows(pieces([file], Passed()), encode, 0, 32))
    assert list(chain(*whole)) == [*encode(TEXT), 0][: len(whole) * 32]
    held = held_out([file], encode, 0, 32, 1000)
    assert held == whole[::EVERY]
    source = trained_on([file], encode, 0, 32, 7, Passed())
    one_pass = [next(source) for _ in range(len(whole) - len(held))]
    assert sorted(one_pass) == sorted(window for at, window in enumerate(whole) if at % EVERY)
    assert one_pass != [window for at, window in enumerate(whole) if at % EVERY], "they are mixed"
    again = trained_on([file], encode, 0, 32, 7, Passed())
    assert [next(again) for _ in one_pass] == one_pass, "the same seed gives the same windows"
    (tmp_path / "short.txt").write_text("Too short.")
    with pytest.raises(InputError, match="less than two windows of 32 tokens"):
        held_out([tmp_path / "short.txt"], encode, 0, 32, 4)


def test_examples_and_pairs_are_read_in_the_shapes_that_people_have_and_the_rest_is_counted(tmp_path):
    def written(*rows):
        file = tmp_path / "rows.jsonl"
        file.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
        return [file]

    user, said = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    found, passed = examples(
        written(
            {"prompt": "q", "completion": "a"},
            {"question": "q", "answer": "a"},
            {"messages": [user, said]},
            {"messages": [user]},
            {"prompt": "q"},
            {"messages": [{"role": "user"}]},
            b"",
            b"\xff",
        )
    )
    assert found == [{"prompt": [user], "completion": [said]}] * 3
    assert passed == 5
    worse = {"role": "assistant", "content": "b"}
    found, passed = pairs(
        written(
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            {"rephrased_question": "q", "rephrased_answer": "a", "original_answer": "b"},
            {"prompt": "q", "chosen": "a", "rejected": "a"},
        )
    )
    assert found == [{"prompt": [user], "chosen": [said], "rejected": [worse]}] * 2
    assert passed == 1
    with pytest.raises(InputError, match=r"no line of .* can be learnt from: write"):
        pairs(written({"prompt": "q"}))
    learnt, held = parted(list(range(25)), 2)
    assert held == [0, 10]
    assert learnt == [each for each in range(25) if each not in held]


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
    assert json.loads((place / "healed" / "graft.json").read_text())["healed"] is True
    assert (place / "healed" / "README.md").read_text().startswith("# healed\n\n- heal of deep: 24 steps, c.txt\n")
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
    with pytest.raises(InputError, match="begun with another seed"):
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
    launched = ("torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", port)
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
