"""`eot eval` on live councils, as a user runs it."""

import json
import sqlite3
from io import StringIO

import pytest
from command import eot, scripted
from rich.console import Console

from api import evaluating
from eot.types import Usage
from evaluation import Progress


def says(answer):
    return f"The answer is {answer}."


@pytest.fixture
def folder(tmp_path):
    scripted(tmp_path, a=[says(5), says(4)], b=[says(6), says(4)], c=[says(7)])
    rows = [{"id": f"q{at}", "text": f"What is {at} + 2?", "kind": "number", "answer": at + 2} for at in range(4)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def paid(folder):
    with sqlite3.connect(folder / "home" / "calls.sqlite") as store:
        return store.execute("select count(*) from calls").fetchone()[0]


def test_a_live_evaluation_prints_tables_and_lays_down_its_folder(folder):
    ran = eot(folder, "eval", "questions.jsonl", "--out", "found")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    for said in ("council:default", "sc-tokens:default", "best-single", "mended 1: q2", "report: found/report.html"):
        assert said in ran.stdout
    names = {path.name for path in (folder / "found").iterdir()}
    assert names >= {"results.jsonl", "report.json", "report.html", "front.png"}


def test_a_log_is_told_how_far_it_is_now_and_then_and_not_at_each_step(monkeypatch):
    log = StringIO()
    watch = evaluating._lines(Console(file=log))
    watch(Progress(done=1, total=6960))
    assert log.getvalue() == ""
    monkeypatch.setattr(evaluating, "EVERY_SECONDS", 0.0)
    watch(Progress(done=2, total=6960, failed=1, spent=Usage(calls=3, input_tokens=1000), eta=3700.0))
    assert log.getvalue() == "2 of 6,960 results · 3 new calls · 1,000 tokens · 0.00 $ · 1 failed · 1 h 01 left\n"


def test_the_json_is_the_report_and_a_second_run_with_one_more_baseline_pays_for_that_alone(folder):
    first = eot(folder, "eval", "questions.jsonl", "--baselines", "cot", "--json")
    before = paid(folder)
    second = eot(folder, "eval", "questions.jsonl", "--baselines", "cot,moa", "--json")
    assert before == 4 * 6
    assert paid(folder) == before + 4 * 4  # three aggregators of the second layer, one of the third
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert two["scores"][: len(one["scores"])] == one["scores"]
    assert [score["system"] for score in two["scores"]] == ["council:default", "round0:default", "cot:a", "moa:default"]
    assert two == json.loads((folder / "eot-eval" / "report.json").read_bytes())


def test_limit_takes_the_first_questions_and_seed_asks_anew(folder):
    ran = eot(folder, "eval", "questions.jsonl", "--baselines", "", "--limit", "2", "--json")
    assert json.loads(ran.stdout)["scores"][0]["graded"] == 2
    assert paid(folder) == 12
    eot(folder, "eval", "questions.jsonl", "--baselines", "", "--limit", "2", "--seed", "1", "--json")
    assert paid(folder) == 24


def test_a_cap_ends_it_with_exit_code_4_and_the_report_on_what_there_is(folder):
    ran = eot(folder, "eval", "questions.jsonl", "--baselines", "", "--max-calls", "14", "--at-once", "1", "--json")
    assert ran.returncode == 4
    report = json.loads(ran.stdout)
    assert report["ended"] == "14 calls"
    assert report["scores"][0]["answered"] == 2
    assert paid(folder) == 14
    assert "run it again" in ran.stderr
    again = eot(folder, "eval", "questions.jsonl", "--baselines", "", "--json")
    assert (again.returncode, paid(folder)) == (0, 24)


def test_a_cap_of_one_run_of_the_council_does_not_bind_its_baselines(folder):
    with (folder / "eot.toml").open("a", encoding="utf-8") as file:
        file.write("[councils.default.budget]\ncalls = 3\n")
    ran = eot(folder, "eval", "questions.jsonl", "--baselines", "moa", "--json")
    calls = {score["system"]: score["calls"] for score in json.loads(ran.stdout)["scores"]}
    assert calls == {"council:default": 3, "round0:default": 3, "moa:default": 7}


def test_when_every_question_failed_it_says_why_with_exit_code_3(folder):
    scripted(folder, a=["!fail"], b=["!fail"], c=["!fail"])
    ran = eot(folder, "eval", "questions.jsonl", "--baselines", "cot")
    assert ran.returncode == 3
    assert "a scripted failure" in ran.stderr


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": "x", "kind": "number", "answer": 1}', "text"),
        ('{"id": "x", "text": "How?", "kind": "guess", "answer": 1}', "guess"),
        ('{"id": "x", "text": "How many?", "kind": "number", "answer": "many"}', "many"),
        ('{"id": "q0", "text": "How many?", "kind": "number", "answer": 1}', "q0"),
        ("{nonsense", "JSON"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line_before_anything_is_spent(folder, row, said):
    with (folder / "questions.jsonl").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    ran = eot(folder, "eval", "questions.jsonl", "--limit", "1")
    assert ran.returncode == 2
    assert "questions.jsonl, line 5" in ran.stderr
    assert said in ran.stderr
    assert not (folder / "home" / "calls.sqlite").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["questions.jsonl", "--councils", "defalut"], "Did you mean 'default'"),
        (["questions.jsonl", "--baselines", "cot,sk"], "no baseline called 'sk'"),
        (["questions.jsonl", "--councils", ""], "--councils"),
        (["questions.jsonl", "--max-calls", "0"], "--max-calls: read 0"),
        (["questions.jsonl", "--max-usd", "-1"], "--max-usd: read -1"),
        (["absent.jsonl"], "absent.jsonl"),
        ([], "eot eval questions.jsonl"),
        (["questions.jsonl", "--out", "eot.toml"], "another folder"),
    ],
)
def test_what_was_typed_wrong_is_refused_with_exit_code_2(folder, words, said):
    ran = eot(folder, "eval", *words)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_corrupt_folder_is_refused_with_file_and_line(folder):
    (folder / "eot-eval").mkdir()
    (folder / "eot-eval" / "results.jsonl").write_text("[]\n", encoding="utf-8")
    ran = eot(folder, "eval", "questions.jsonl")
    assert ran.returncode == 2
    assert "results.jsonl, line 1" in ran.stderr
