"""What an evaluation teaches a council: reliabilities, weights, and the gate."""

import json
import tomllib

import pytest
from command import eot, scripted

from eot.settings import load
from evaluation.learning import calibrated_gate
from evaluation.weights import Answered

EVEN = {"a": 1.0, "b": 1.0, "c": 1.0}


def history(*rows):
    """Rows of (answers of a, b and c, how often): "1" is right."""
    made = []
    for said, times in rows:
        answers = dict(zip("abc", said, strict=True))
        made += [Answered(answers, frozenset(a for a, said in answers.items() if said == "1"))] * times
    return made


def test_the_gate_is_the_lowest_agreement_that_was_right_nine_times_in_ten():
    unanimous, split = ("111", 60), ("110", 40)
    assert calibrated_gate(history(unanimous, split), EVEN) == 0.5
    assert calibrated_gate(history(unanimous, ("100", 40)), EVEN) == pytest.approx(2 / 3)
    assert calibrated_gate(history(("111", 60), ("000", 60), ("100", 40)), EVEN) == 1.0


def test_a_few_lucky_questions_open_no_gate():
    assert calibrated_gate(history(("111", 5)), EVEN) == 1.0
    assert calibrated_gate(history(("111", 20)), EVEN) == 0.5


def test_a_question_that_a_member_did_not_answer_says_nothing_about_agreement():
    rows = history(("111", 30)) + [Answered({"a": "0", "b": "0"}, frozenset())] * 30
    assert calibrated_gate(rows, EVEN) == 0.5


def says(*answers):
    return [f"The answer is {answer}." for answer in answers]


@pytest.fixture
def folder(tmp_path):
    scripted(tmp_path, weak=says(9), good=says(5), fair=says(5))
    return tmp_path


def ask(folder, rows, *options):
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return eot(folder, "eval", "q.jsonl", "--baselines", "best-single", "--learn-weights", "learnt.toml", *options)


def rows(count, **more):
    return [{"id": f"q{at}", "text": f"What is 2 + 3? ({at})", "kind": "number", **more} for at in range(count)]


def test_what_was_learnt_live_can_be_put_into_the_settings_and_seats_the_strongest_first(folder):
    ran = ask(folder, rows(30, answer=5))
    assert ran.returncode == 0, ran.stderr
    assert "reliability (counted" in ran.stdout
    learnt = tomllib.loads((folder / "learnt.toml").read_text(encoding="utf-8"))
    weights = {name: table["weight"] for name, table in learnt["agents"].items()}
    assert weights["good"] == weights["fair"] > 5 * weights["weak"]
    assert 0.5 <= learnt["councils"]["default"]["gate"] < 1
    written = (folder / "eot.toml").read_text(encoding="utf-8")
    for name, weight in weights.items():
        written = written.replace(f"[agents.{name}]\n", f"[agents.{name}]\nweight = {weight}\n")
    gate = learnt["councils"]["default"]["gate"]
    (folder / "eot.toml").write_text(f"{written}gate = {gate}\n", encoding="utf-8")
    assert load(folder / "eot.toml").councils["default"].gate == gate
    asked = json.loads(eot(folder, "ask", "What is 2 + 3?", "--json").stdout)
    assert list(asked["exchange"]["hears"]) == ["good", "fair", "weak"]
    assert [turn["agent"] for turn in asked["exchange"]["rounds"][0]] == ["good", "fair"]


def test_without_a_gold_answer_weights_come_from_agreement_and_no_gate_is_claimed(folder):
    ran = ask(folder, rows(12))
    assert ran.returncode == 0, ran.stderr
    learnt = tomllib.loads((folder / "learnt.toml").read_text(encoding="utf-8"))
    assert "no labels" in (folder / "learnt.toml").read_text(encoding="utf-8")
    assert "councils" not in learnt
    assert learnt["agents"]["good"]["weight"] > learnt["agents"]["weak"]["weight"]


def test_open_questions_teach_nothing_and_the_command_says_so(folder):
    ran = ask(folder, [{"id": "o", "text": "Describe the sea.", "kind": "open", "answer": "blue"}])
    assert ran.returncode == 2
    assert "no closed question was answered" in ran.stderr


def test_a_file_of_other_things_is_not_overwritten_and_nothing_is_asked(folder):
    ran = ask(folder, rows(1, answer=5), "--learn-weights", "eot.toml")
    assert ran.returncode == 2
    assert "holds something else" in ran.stderr
    assert not (folder / "home" / "calls.sqlite").exists()
