"""A council whose seats a gate fills: trained, reported and asked as a user does, with the real MiniLM."""

import json

import httpx
import pytest
from command import eot
from serving import serving
from weights import weights

from eot.settings import load

pytestmark = [pytest.mark.torch, pytest.mark.llm]

SUMS = [f"What is {a} times {b}, plus {a}?" for a in range(2, 9) for b in range(3, 8)]
VERSES = [f"Write a {mood} verse about {thing}." for mood in ("sad", "merry", "short", "slow", "wild")
          for thing in ("the sea", "an old oak", "rain", "my mother", "autumn", "a lost cat", "home")]  # fmt: skip
OTHER_SUMS = [f"What is {a} times 11, plus {a}?" for a in range(2, 10)]
OTHER_VERSES = [f"Write a gentle verse about {thing}." for thing in ("snow", "a lake", "tea", "my father", "spring",
                "a young dog", "the moon", "bread")]  # fmt: skip
SETTINGS = """
[embed]
model = "{minilm}"
[agents.reckoner]
model = "scripted"
script = ["The answer is 42."]
[agents.bard]
model = "scripted"
script = ["The answer is 7."]
[agents.stranger]
model = "scripted"
script = ["The answer is 9."]
[councils.default]
agents = "gate:who"
pick = {pick}
topology = "memory"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("gated")
    taught = scored(SUMS, VERSES)
    (made / "scored.jsonl").write_text(taught, encoding="utf-8")
    half = '{"question": "What is 70 minus 7?", "scores": {"reckoner": 1}}\n'
    (made / "others.jsonl").write_text(scored(OTHER_SUMS, OTHER_VERSES) + half + taught, encoding="utf-8")
    settle(made)
    trained = eot(made, "gate", "train", "who", "scored.jsonl")
    assert trained.returncode == 0, trained.stderr
    made.joinpath("trained.txt").write_text(trained.stdout, encoding="utf-8")
    return made


def scored(sums, verses):
    rows = [{"question": q, "scores": {"reckoner": 1, "bard": 0}} for q in sums]
    rows += [{"question": q, "scores": {"reckoner": 0, "bard": 1}} for q in verses]
    return "".join(json.dumps(row) + "\n" for row in rows)


def settle(folder, pick=1):
    minilm = weights("all-minilm-l6-v2")
    (folder / "eot.toml").write_text(SETTINGS.format(minilm=minilm, pick=pick), encoding="utf-8")


def seated(folder, question):
    ran = eot(folder, "ask", question, "--json")
    assert ran.returncode == 0, ran.stderr
    return list(json.loads(ran.stdout)["exchange"]["hears"])


def test_training_says_what_the_gate_is_worth_on_questions_it_has_not_seen(folder):
    said = (folder / "trained.txt").read_text(encoding="utf-8")
    assert "14 questions that the gate had not seen; learnt from 56" in said
    assert "the gate knn gains +" in said
    assert "oracle" in said


def test_the_gate_picks_whom_to_ask_by_the_question_and_never_whom_it_does_not_know(folder):
    assert seated(folder, "What is 12 times 5, plus 3?") == ["reckoner"]
    assert seated(folder, "Write a gentle verse about snow.") == ["bard"]
    settle(folder, pick=3)
    assert seated(folder, "Write a gentle verse about snow.") == ["bard", "reckoner"]
    settle(folder)


def test_a_gate_is_judged_on_questions_it_was_not_taught_with_what_they_cost(folder):
    (folder / "costs.json").write_text('{"reckoner": 2, "bard": 10}', encoding="utf-8")
    ran = eot(folder, "gate", "report", "who", "others.jsonl", "--costs", "costs.json", "--json")
    report = json.loads(ran.stdout)
    assert [report[key] for key in ("questions", "already_taught", "half_scored", "learnt_from")] == [16, 70, 1, 70]
    assert report["routers"][0]["reward"]["mean"] == 1.0
    assert report["routers"][0]["cost"] == 6.0
    assert report["preselected"][1]["fixed_cost"] == 12.0
    assert {"best single (reckoner)", "oracle", "random"} <= {one["name"] for one in report["routers"]}


def test_the_settings_check_knows_a_gate_and_an_evaluation_runs_a_gated_council(folder):
    assert eot(folder, "config", "check").returncode == 0
    rows = [{"id": str(at), "text": q, "kind": "number", "answer": 42} for at, q in enumerate(SUMS[:3])]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ran = eot(folder, "eval", "q.jsonl", "--baselines", "best-single", "--out", "found", "--json")
    assert ran.returncode == 0, ran.stderr
    scores = {score["system"]: score for score in json.loads(ran.stdout)["scores"]}
    assert scores["council:default"]["accuracy"]["mean"] == 1.0
    assert scores["council:default"]["calls"] == 1.0
    again = eot(folder, "gate", "train", "learnt", "found/results.jsonl", "--questions", "q.jsonl")
    assert again.returncode == 2
    assert "3 scored questions are too few" in again.stderr


def test_a_served_council_passes_over_whoever_had_its_share_of_the_questions(folder, tmp_path, monkeypatch):
    shares = "shares = {reckoner = 0.1, bard = 0.9}\ncapacity = 1.0\n[serve]\nport = 0\n"
    (tmp_path / "eot.toml").write_text((folder / "eot.toml").read_text(encoding="utf-8") + shares, encoding="utf-8")
    monkeypatch.setenv("EOT_HOME", str(folder / "home"))
    with serving(load(tmp_path / "eot.toml")) as served:
        said = []
        for text in SUMS[:14]:
            asked = {"model": "eot/default", "messages": [{"role": "user", "content": text}]}
            answer = httpx.post(f"{served.url}/v1/chat/completions", json=asked, timeout=30).raise_for_status()
            said.append("42" if "42" in answer.json()["choices"][0]["message"]["content"] else "7")
    assert said == ["42"] * 10 + ["7"] * 4, "of a hundred choices a tenth"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('{"question": "q"}\n', "line 1: a row is"),
        ('{"question": "q", "scores": {"a": 2}}\n', "line 1: the score of 'a' is 2; a score is a number in 0..1"),
        ("nonsense\n", "line 1: not JSON"),
    ],
)
def test_bad_rows_are_refused_with_file_and_line(folder, rows, said):
    (folder / "bad.jsonl").write_text(rows, encoding="utf-8")
    ran = eot(folder, "gate", "train", "x", "bad.jsonl")
    assert ran.returncode == 2
    assert said in ran.stderr


def test_a_council_whose_gate_was_never_trained_says_how_to_train_it(folder, tmp_path):
    text = (folder / "eot.toml").read_text(encoding="utf-8").replace("gate:who", "gate:nobody")
    (tmp_path / "eot.toml").write_text(text, encoding="utf-8")
    ran = eot(tmp_path, "ask", "What is 2 + 2?")
    assert ran.returncode == 2
    assert "eot gate train nobody" in ran.stderr
