"""`eot batch` as a user runs it: here and against a server, stopped and gone on with, capped, wrong."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest
from chat_server import ChatServer
from command import EOT, environment, eot, scripted
from serving import serving, settings

from api.batch_rows import request_lines
from eot.errors import AnswersError

SEVEN = {"a": ["I count. The answer is 7."], "b": ["The answer is 7."], "c": ["The answer is 8."]}


def questions(folder, rows, name="questions.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def answers(folder, name="questions.answers.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def numbered(count):
    return [{"id": f"q{k}", "text": f"How many are {k}?", "kind": "number"} for k in range(count)]


def test_every_question_is_answered_under_its_id(tmp_path):
    scripted(tmp_path, **SEVEN)
    rows = [
        *numbered(3),
        {"text": "Which?", "choices": ["red", "blue"], "kind": "choice"},
        {"id": 9, "question": "你好？"},
    ]
    ran = eot(tmp_path, "batch", "run", questions(tmp_path, rows), "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["status"], told["request_counts"]["completed"]) == ("completed", 5)
    found = answers(tmp_path)
    assert [row["id"] for row in found] == ["q0", "q1", "q2", "line-4", "9"]
    assert [row["answer"] for row in found[:3]] == ["7", "7", "7"]
    assert found[0]["question"] == "How many are 0?"
    assert found[0]["usage"]["calls"] >= 2


def test_the_same_command_again_asks_nobody(tmp_path):
    scripted(tmp_path, **SEVEN)
    file = questions(tmp_path, numbered(4))
    first = json.loads(eot(tmp_path, "batch", "run", file, "--json").stdout)
    (tmp_path / "questions.answers.jsonl").unlink()
    again = json.loads(eot(tmp_path, "batch", "run", file, "--json").stdout)
    assert again == first
    assert len(answers(tmp_path)) == 4
    other = json.loads(eot(tmp_path, "batch", "run", questions(tmp_path, numbered(5)), "--json").stdout)
    assert other["id"] != first["id"]
    listed = json.loads(eot(tmp_path, "batch", "status", "--json").stdout)
    assert {one["id"] for one in listed} == {first["id"], other["id"]}


def hosted(folder, server):
    lines = ['[agents.a]\nmodel = "openai/m"', f'base_url = "{server.url}"', "retries = 0", "input_usd_per_million = 1"]
    lines += ["output_usd_per_million = 1", '[councils.default]\nagents = ["a"]\nrounds = 0']
    (folder / "eot.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def upstream():
    server = ChatServer(lambda number, body: "The answer is 7.")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def test_a_run_that_was_killed_goes_on_and_pays_nothing_twice(tmp_path, upstream):
    asked = []

    def answer(number, body):
        asked.append(body["messages"][-1]["content"])
        return "The answer is 7." if number < 6 or upstream.over.is_set() else None

    upstream.answer = answer
    hosted(tmp_path, upstream)
    file = questions(tmp_path, numbered(10))
    words = [str(EOT), "batch", "run", file, "--at-once", "2"]
    with subprocess.Popen(words, cwd=tmp_path, env=environment(tmp_path / "home"), stdout=subprocess.PIPE) as run:
        assert upstream.hung.wait(60)
        time.sleep(0.3)
        os.kill(run.pid, signal.SIGKILL)
    upstream.over.set()
    paid = set(asked[:6])
    before = len(asked)
    ended = eot(tmp_path, "batch", "run", file, "--json")
    assert ended.returncode == 0, ended.stderr
    assert [row["id"] for row in answers(tmp_path)] == [f"q{k}" for k in range(10)]
    assert not paid & set(asked[before:])


def test_a_cap_ends_it_and_a_higher_one_goes_on(tmp_path, upstream):
    hosted(tmp_path, upstream)
    file = questions(tmp_path, numbered(8))
    capped = eot(tmp_path, "batch", "run", file, "--max-calls", "5")
    assert capped.returncode == 4
    assert "a higher one goes on" in capped.stderr
    found = answers(tmp_path)
    assert sum("answer" in row for row in found) == 5
    assert [row["error"]["code"] for row in found if "error" in row] == ["budget_spent"] * 3
    assert len(upstream.bodies) == 5
    ended = eot(tmp_path, "batch", "run", file, "--max-calls", "50")
    assert ended.returncode == 0, ended.stderr
    assert sum("answer" in row for row in answers(tmp_path)) == 8
    assert len(upstream.bodies) == 8


def test_an_estimate_asks_nobody(tmp_path, upstream):
    hosted(tmp_path, upstream)
    told = eot(tmp_path, "batch", "run", questions(tmp_path, numbered(10)), "--estimate")
    assert told.returncode == 0, told.stderr
    assert "calls: 10 to 10" in told.stdout
    assert upstream.bodies == []


@pytest.mark.parametrize("row", ["[1]", '{"id": 1}', '{"id": true, "text": "a"}', '{"text": "a", "choices": 7}', "{"])
def test_a_row_that_is_no_question_is_told_with_its_line(tmp_path, row):
    path = tmp_path / "q.jsonl"
    path.write_text('{"text": "a"}\n' + row, encoding="utf-8")
    with pytest.raises(AnswersError, match="line 2"):
        list(request_lines(path, "default"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no rows"),
        ('{"id": 1, "text": "a"}\n\n{"id": 1, "text": "b"}', "line 3: the custom_id"),
        ('{"id": 1, "text": "a", "choices": 7}', '"choices" is 7'),
        ('{"custom_id": "x", "url": "/v1/audio", "body": {}}', "a batch can be for"),
    ],
)
def test_a_file_that_cannot_be_asked_is_refused_with_its_line(tmp_path, content, said):
    scripted(tmp_path, **SEVEN)
    (tmp_path / "questions.jsonl").write_text(content, encoding="utf-8")
    refused = eot(tmp_path, "batch", "run", "questions.jsonl")
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_openai_lines_come_back_as_openai_lines(tmp_path):
    scripted(tmp_path, **SEVEN)
    body = {"model": "eot/default", "messages": [{"role": "user", "content": "How many?"}]}
    rows = [{"custom_id": f"r{k}", "method": "POST", "url": "/v1/chat/completions", "body": body} for k in range(3)]
    ran = eot(tmp_path, "batch", "run", questions(tmp_path, rows), "--out", "found.jsonl")
    assert ran.returncode == 0, ran.stderr
    found = answers(tmp_path, "found.jsonl")
    assert [row["custom_id"] for row in found] == ["r0", "r1", "r2"]
    assert found[0]["response"]["body"]["choices"][0]["message"]["content"].endswith("7.")


def test_a_server_does_it_for_the_command_line(tmp_path):
    file = questions(tmp_path, numbered(5))
    with serving(settings(tmp_path / "server", agents=SEVEN)) as served:
        words = ("batch", "run", file, "--server", served.url, "--json")
        first = eot(tmp_path, *words)
        assert first.returncode == 0, first.stderr
        (tmp_path / "questions.answers.jsonl").unlink()
        again = eot(tmp_path, *words)
        assert json.loads(again.stdout)["id"] == json.loads(first.stdout)["id"]
        listed = json.loads(eot(tmp_path, "batch", "status", "--server", served.url, "--json").stdout)
        cancelled = eot(tmp_path, "batch", "cancel", listed[0]["id"], "--server", served.url)
        estimate = eot(tmp_path, "batch", "run", file, "--server", served.url, "--estimate")
    assert [row["answer"] for row in answers(tmp_path)] == ["7"] * 5
    assert [one["status"] for one in listed] == ["completed"]
    assert cancelled.returncode == 2
    assert "nothing to cancel" in cancelled.stderr
    assert "requests: 5" in estimate.stdout
    gone = eot(tmp_path, *words)
    assert gone.returncode == 1
    assert "cannot be reached" in gone.stderr


def test_a_batch_that_nobody_works_on_can_be_cancelled_and_begun_anew(tmp_path, upstream):
    upstream.answer = lambda number, body: "The answer is 7." if number < 2 or upstream.over.is_set() else None
    hosted(tmp_path, upstream)
    file = questions(tmp_path, numbered(6))
    words = [str(EOT), "batch", "run", file, "--at-once", "2"]
    with subprocess.Popen(words, cwd=tmp_path, env=environment(tmp_path / "home")) as run:
        assert upstream.hung.wait(60)
        time.sleep(0.3)
        (listed,) = json.loads(eot(tmp_path, "batch", "status", "--json").stdout)
        assert (listed["status"], listed["request_counts"]["completed"]) == ("in_progress", 2)
        twice = eot(tmp_path, "batch", "run", file)
        assert "another process works on" in twice.stderr
        os.kill(run.pid, signal.SIGKILL)
    cancelled = json.loads(eot(tmp_path, "batch", "cancel", listed["id"], "--json").stdout)
    assert (cancelled["status"], cancelled["request_counts"]) == (
        "cancelled",
        {"total": 6, "completed": 2, "failed": 4},
    )
    upstream.over.set()
    assert eot(tmp_path, "batch", "run", file).returncode == 0
    assert len(answers(tmp_path)) == 6


@pytest.fixture
def interruptible():
    """Ctrl-C reaches what a test starts: a shell makes its background jobs ignore it, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_batch_in_work_can_be_stopped_or_cancelled_from_elsewhere(tmp_path, upstream):
    upstream.answer = lambda number, body: "The answer is 7." if number < 2 else None
    hosted(tmp_path, upstream)
    file = questions(tmp_path, numbered(6))

    def started():
        upstream.hung.clear()
        words = [str(EOT), "batch", "run", file, "--at-once", "2"]
        run = subprocess.Popen(
            words, cwd=tmp_path, env=environment(tmp_path / "home"), stderr=subprocess.PIPE, text=True
        )
        assert upstream.hung.wait(60)
        return run

    with started() as run:
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 1
    assert said == "error: stopped; the same command goes on where it was\n"
    with started() as run:
        (listed,) = json.loads(eot(tmp_path, "batch", "status", "--json").stdout)
        told = json.loads(eot(tmp_path, "batch", "cancel", listed["id"], "--json").stdout)
        _, said = run.communicate(timeout=30)
    assert told["status"] in ("cancelling", "cancelled")
    assert run.returncode == 1
    assert "the batch was cancelled" in said
    assert sum("answer" in row for row in answers(tmp_path)) == 2
    again = eot(tmp_path, "batch", "cancel", listed["id"])
    assert again.returncode == 2
    assert "nothing to cancel" in again.stderr


def test_a_worker_without_a_shared_store_is_refused(tmp_path):
    scripted(tmp_path, **SEVEN)
    refused = eot(tmp_path, "worker")
    assert refused.returncode == 2
    assert "redis://" in refused.stderr
