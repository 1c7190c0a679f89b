"""`eot gate` from scored rows, from an evaluation's results and from feedback; verses and sums stand in for vectors."""

import json

import httpx
import numpy as np
import pytest
from command import scripted
from serving import serving

from agents.gating import Recipe
from api import gating
from api.checking import check_settings
from api.evaluating import Evaluating, evaluate_file
from api.gating import Judging, Training, report_gate, train_gate
from eot.errors import AnswersError, InputError, SettingsError
from eot.settings import load

SUMS = [f"What is {a} times {b}, plus {a}?" for a in range(2, 7) for b in range(3, 8)]
VERSES = [
    f"Write a {mood} verse about {thing}."
    for mood in ("sad", "merry", "short", "slow", "wild")
    for thing in ("the sea", "an old oak", "rain", "my mother", "autumn")
]
OTHERS = [f"What is {a} minus 1?" for a in range(10)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two agents who are right about sums and about verses; the gate tells these apart, and nothing else."""

    def embed(questions, _settings):
        return np.array([[1.0, 0.0] if question.startswith("What") else [0.0, 1.0] for question in questions])

    monkeypatch.setattr(gating, "embed_questions", embed)
    monkeypatch.setenv("EOT_HOME", str(tmp_path / "home"))
    scripted(tmp_path, reckoner=["The answer is 42."], bard=["The answer is 7."])
    with (tmp_path / "eot.toml").open("a", encoding="utf-8") as file:
        file.write("lazy = false\nrounds = 0\n")
    write(tmp_path / "scored.jsonl", SUMS, VERSES)
    write(tmp_path / "others.jsonl", OTHERS, [])
    return tmp_path


def write(file, sums, verses):
    rows = [{"question": q, "scores": {"reckoner": 1, "bard": 0}} for q in sums]
    rows += [{"question": q, "scores": {"reckoner": 0, "bard": 1}} for q in verses]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def counted(report):
    return [report[key] for key in ("questions", "already_taught", "half_scored", "learnt_from")]


@pytest.fixture
def train(folder, capsys):
    def trained(file=None, questions=None, *, recipe=None, **more):
        recipe = recipe or Recipe(neighbours=10)
        train_gate(Training("g", file, questions, recipe=recipe, **more), folder / "eot.toml", as_json=True)
        return json.loads(capsys.readouterr().out)

    return trained


@pytest.fixture
def report(folder, capsys):
    def reported(file, questions=None):
        report_gate(Judging("g", file, questions), folder / "eot.toml", as_json=True)
        return json.loads(capsys.readouterr().out)

    return reported


@pytest.mark.parametrize("recipe", [Recipe(neighbours=10), Recipe("linear")], ids=str)
def test_a_report_knows_what_the_gate_was_taught(folder, train, report, recipe):
    assert counted(train(folder / "scored.jsonl", recipe=recipe)) == [10, 0, 0, 40]
    write(folder / "mixed.jsonl", [*SUMS, *OTHERS], VERSES)
    with (folder / "mixed.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"question": "What is half scored?", "scores": {"bard": 1}}\n')
    found = report(folder / "mixed.jsonl")
    assert counted(found) == [10, 50, 1, 50]
    assert found["agents"] == pytest.approx({"reckoner": 0.5, "bard": 0.5}), "the means of what it was taught"


def test_few_rows_that_can_be_told_apart_gain_with_the_default_neighbours(folder, train):
    more = [f"Write a calm verse about {thing}." for thing in range(10)]
    write(folder / "seventy.jsonl", SUMS + OTHERS, VERSES + more)
    found = train(folder / "seventy.jsonl", recipe=Recipe())
    assert counted(found) == [14, 0, 0, 56]
    assert found["verdict"].startswith("the gate knn gains")
    with pytest.raises(InputError, match="of 56 rows to learn from, 60 neighbours are all"):
        train(folder / "seventy.jsonl", recipe=Recipe(neighbours=60))


def test_a_gate_of_another_embedding_model_is_refused_wherever_it_is_used(folder, train, report, capsys):
    train(folder / "scored.jsonl")
    with (folder / "eot.toml").open("a", encoding="utf-8") as file:
        file.write('[councils.gated]\nagents = "gate:g"\n[embed]\nmodel = "elsewhere/all-minilm-l6-v2/"\n')
    report(folder / "others.jsonl")
    check_settings(folder / "eot.toml", as_json=True)
    other = (folder / "eot.toml").read_text(encoding="utf-8").replace("elsewhere/all-minilm-l6-v2", "bge-small")
    (folder / "eot.toml").write_text(other, encoding="utf-8")
    said = "'g' was trained on vectors by all-minilm-l6-v2, and embed.model is bge-small: set it to that model"
    with pytest.raises(InputError, match=said):
        report(folder / "others.jsonl")
    capsys.readouterr()
    with pytest.raises(SettingsError, match=f"councils.gated: the gate {said}"):
        check_settings(folder / "eot.toml", as_json=True)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('"scores": {"bard": true}', "the score of 'bard' is True; a score is a number in 0..1"),
        ('"scores": {"bard": 1}, "costs": {"bard": -3}', "the cost of 'bard' is -3; a cost is a finite number"),
        ('"scores": {"bard": 1}, "costs": {"bard": NaN}', "the cost of 'bard' is nan"),
        ('"scores": {"bard": 1}, "costs": {"bard": 1e999}', "the cost of 'bard' is inf"),
        ('"scores": {"bard": 1}, "costs": {"bard": true}', "the cost of 'bard' is True"),
        ('"scores": {"bard": 1}, "costs": []', "costs are {AGENT: number}"),
    ],
)
def test_scores_and_costs_that_are_none_are_refused_with_file_and_line(folder, train, row, said):
    (folder / "bad.jsonl").write_text(f'{{"question": "q", {row}}}\n', encoding="utf-8")
    with pytest.raises(AnswersError, match=f"bad.jsonl, line 1: {said}"):
        train(folder / "bad.jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"bard": -3}', "the cost of 'bard' is -3"),
        ('{"bard": "NaN"}', "the cost of 'bard' is 'NaN'"),
        ('{"bard": NaN}', "the cost of 'bard' is nan"),
        ('{"bard": 1, "brad": 2}', "the gate knows no 'brad'; it knows reckoner, bard"),
        ("[1]", "costs are {AGENT: number}"),
        ("bard", "gives no costs"),
    ],
)
def test_costs_of_nobody_and_of_no_number_are_refused(folder, train, text, said):
    train(folder / "scored.jsonl")
    (folder / "costs.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        report_gate(
            Judging("g", folder / "others.jsonl", costs=folder / "costs.json"), folder / "eot.toml", as_json=True
        )


def test_what_was_left_out_is_said(folder, train, capsys):
    train(folder / "scored.jsonl")
    report_gate(Judging("g", folder / "scored.jsonl"), folder / "eot.toml", as_json=False)
    said = capsys.readouterr().out
    assert said.startswith("0 questions that the gate had not seen; learnt from 50; left out: 50 that it was taught\n")
    assert "nothing can be said of the gate g on 0 questions" in said


def test_a_question_that_comes_again_is_never_both_taught_and_held_out(folder, train):
    rows = (folder / "scored.jsonl").read_text(encoding="utf-8")
    (folder / "thrice.jsonl").write_text(rows * 3, encoding="utf-8")
    report = train(folder / "thrice.jsonl")
    assert counted(report) == [10, 0, 0, 120]
    assert report["repeated"] == 20


def test_a_gate_is_learnt_from_the_results_of_an_evaluation(folder, train, report, capsys):
    rows = [{"id": f"s{at}", "text": q, "kind": "number", "answer": 42} for at, q in enumerate(SUMS)]
    rows += [{"id": f"v{at}", "text": q, "kind": "number", "answer": 7} for at, q in enumerate(VERSES)]
    asked, out = folder / "asked.jsonl", folder / "found"
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    evaluation = Evaluating(questions=asked, out=out, councils=("default",), baselines=("best-single",), caps={})
    evaluate_file(evaluation, folder / "eot.toml", as_json=True)
    capsys.readouterr()
    found = train(out / "results.jsonl", asked)
    assert counted(found) == [10, 0, 0, 40]
    assert set(found["agents"]) == {"reckoner", "bard"}
    gate = found["routers"][0]
    assert (gate["reward"]["mean"], gate["cost"]) == (1.0, 0.0), "scripted agents are known to cost nothing"
    assert found["verdict"].startswith("the gate knn gains")
    assert counted(report(out / "results.jsonl", asked)) == [0, 50, 0, 50]
    judged = report(folder / "others.jsonl")
    assert counted(judged) == [10, 0, 0, 50]
    assert judged["routers"][0]["reward"]["mean"] == 1.0


def test_a_gate_is_trained_and_judged_on_what_callers_said_of_runs(folder, train, report):
    with serving(load(folder / "eot.toml")) as served:
        for gold, texts in (("42", SUMS), ("7", VERSES)):
            for text in texts:
                run = httpx.post(f"{served.url}/v1/runs", json={"question": {"text": text, "kind": "number"}}).json()
                httpx.get(f"{served.url}/v1/runs/{run['id']}?wait=20").raise_for_status()
                said = httpx.post(f"{served.url}/v1/runs/{run['id']}/feedback", json={"gold": gold})
                assert set(said.json()["scores"]) == {"reckoner", "bard"}, said.text
    found = train(feedback=True)
    assert counted(found) == [10, 0, 0, 40]
    assert found["routers"][0]["reward"]["mean"] == 1.0
    assert found["verdict"].startswith("the gate knn gains")
    judged = report(folder / "others.jsonl")
    assert counted(judged) == [10, 0, 0, 50]
    assert judged["routers"][0]["reward"]["mean"] == 1.0
