"""Votes on recorded answers beside each voter alone, from Python and from the command line."""

import gzip
import json
import tomllib

import pytest
from command import eot

from api.replaying import Replaying, replay_file
from eot.errors import AnswersError, InputError, UnknownNameError
from evaluation.replay import replay
from evaluation.weights import HEADER
from scoring import AnswerRow, Ballot, read_answers


def row(*answers, gold="1", kind="number", texts=True, **more):
    """A row of voters a, b, c...; a text of its own for each."""
    ballots = [
        Ballot(chr(ord("a") + at), f"Reason {at} is why." if texts else "", said) for at, said in enumerate(answers)
    ]
    return AnswerRow(line=1, question="How many?", kind=kind, ballots=tuple(ballots), gold=gold, **more)


ROWS = [row("1", "1", "2"), row("1", "2", "3"), row("2", "2", "1"), row("1", None, "2"), row(None, None, None)]


def scored(found):
    return {system.name: system.accuracy.mean for system in found.systems}


def test_each_system_scores_what_can_be_reckoned_by_hand():
    found = scored(replay(ROWS))
    assert found["best_single"] == pytest.approx(3 / 5)  # a
    assert found["mean_single"] == pytest.approx((3 + 1 + 1) / 15)
    assert found["majority_by_chance"] == pytest.approx((1 + 1 / 3 + 0 + 1 / 2 + 0) / 5)
    assert found["any_right"] == pytest.approx(4 / 5)
    assert set(found) == {
        "best_single", "mean_single", "majority_by_chance", "auto", "word", "char", "word+char", "one_coin",
        "gold_weights", "chosen_single", "any_right",
    }  # fmt: skip


def test_voters_are_told_with_how_often_they_answer_and_speak():
    found = replay(ROWS)
    assert [(v.name, v.answered, v.alone.mean) for v in found.voters] == [("a", 4, 0.6), ("b", 3, 0.2), ("c", 4, 0.2)]
    assert sum(v.speaks for v in found.voters) == pytest.approx(1)
    assert found.best == "a"
    assert list(found.weights) == ["a", "b", "c"]


def test_differences_are_paired_and_a_system_never_differs_from_itself():
    found = {system.name: system for system in replay(ROWS).systems}
    assert (found["best_single"].vs_best.low, found["best_single"].vs_best.high) == (0, 0)
    assert found["any_right"].vs_best.mean == pytest.approx(0.2)
    assert found["any_right"].vs_majority.mean == pytest.approx(0.8 - 11 / 30)


def test_only_the_voters_that_were_named_take_part_in_their_order():
    found = replay(ROWS, voters=["c", "a"])
    assert {v.name for v in found.voters} == {"a", "c"}
    tied = replay([row("1", "2", "3", texts=False)], voters=["c", "a"])
    assert [(v.name, v.speaks) for v in tied.voters] == [("c", 1), ("a", 0)]  # the first of equals is c
    with pytest.raises(UnknownNameError, match="no voter called 'd'"):
        replay(ROWS, voters=["a", "d"])


def test_without_texts_there_is_no_vote_by_text():
    found = scored(replay([row("1", "1", "2", texts=False), row("2", "2", "1", texts=False)]))
    assert not {"word", "char", "word+char"} & set(found)
    assert found["majority_by_chance"] == 0.5


def test_an_embedding_adds_a_third_signal_and_is_asked_once_for_the_same_texts():
    asked = []

    def embed(texts):
        asked.append(tuple(texts))
        return [[float(len(text)), 1.0] for text in texts]

    found = scored(replay([row("1", "1", "2"), row("1", "2", "3")], embed=embed))
    assert "emb+word+char" in found
    assert "word+char" not in found
    assert len(asked) == len(set(asked)) == 2


def test_the_recorded_answer_closes_the_text_that_is_voted_on():
    seen = []

    def embed(texts):
        seen.extend(texts)
        return [[1.0]] * len(texts)

    replay([row("1", "1", "2", None)], embed=embed)
    assert set(seen) == {f"Reason {at} is why.\nThe answer is {said}." for at, said in enumerate("112")}


def test_one_name_that_answers_twice_is_two_voters():
    twice = AnswerRow(1, "How many?", "number", (Ballot("m", "", "1"), Ballot("m", "", "2")), gold="2")
    assert [(v.name, v.alone.mean) for v in replay([twice]).voters] == [("m", 0), ("m#2", 1)]


def test_labels_of_a_fold_are_never_used_on_that_fold():
    # one row that teaches, the rest silent: on itself it teaches nothing, and the first of equals is taken
    silent = [row(None, None, texts=False)] * 4
    for first, share in (("1", 0.2), ("2", 0.0)):
        found = scored(replay([row(first, "2" if first == "1" else "1", texts=False), *silent]))
        assert found["gold_weights"] == found["chosen_single"] == share


def test_without_labels_there_are_weights_but_no_scores():
    found = replay([row("1", "1", "2", gold=None) for _ in range(60)])
    assert (found.labelled, found.systems, found.best, found.calibration, found.learnt) == (
        0,
        (),
        None,
        None,
        "one-coin",
    )
    assert found.weights["a"] == found.weights["b"] > found.weights["c"] > 0


def test_support_is_measured_as_confidence():
    found = replay([row("1", "1", "2"), row("2", "2", "2")]).calibration
    assert found.ece == pytest.approx((1 / 3 + 1) / 2)


def test_an_open_answer_is_right_when_it_is_like_the_reference():
    rows = [row("rain from clouds", "sunshine", "rain out of clouds", gold="rain from the clouds", kind="open")]
    found = scored(replay(rows))
    assert found["auto"] == found["any_right"] == 1
    assert found["mean_single"] == pytest.approx(2 / 3)


def test_no_rows_are_refused():
    with pytest.raises(AnswersError, match="no answers"):
        replay([])


def recorded(folder, rows, name="answers.jsonl"):
    path = folder / name
    text = "".join(json.dumps(said) + "\n" for said in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def candidates(**answers):
    return [{"model": model, "text": f"Model {model} thinks so.", "answer": said} for model, said in answers.items()]


FILE = [
    {"id": "q1", "question": "How many?", "gold": "1", "candidates": candidates(x="1", y="1", z="2")},
    {"id": "q2", "question": "How many then?", "gold": "1", "candidates": candidates(x="1", y="3", z="2")},
]


def test_the_command_prints_a_table_and_writes_weights(tmp_path):
    recorded(tmp_path, FILE)
    done = eot(tmp_path, "eval", "--replay", "answers.jsonl", "--learn-weights", "weights.toml")
    assert done.returncode == 0, done.stderr
    for said in ("best single", "majority", "words + chars", "one-coin", "100.0", "calibration error"):
        assert said in done.stdout
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout  # nothing is cut off
    found = tomllib.loads((tmp_path / "weights.toml").read_text())["agents"]
    assert found["x"]["weight"] > found["y"]["weight"] > found["z"]["weight"] > 0
    again = eot(tmp_path, "eval", "--replay", "answers.jsonl", "--learn-weights", "weights.toml")
    assert again.returncode == 0, again.stderr  # its own file it may renew


def test_json_is_one_object_and_models_choose_the_voters(tmp_path):
    recorded(tmp_path, FILE, "answers.jsonl.gz")
    done = eot(tmp_path, "eval", "--replay", "answers.jsonl.gz", "--models", "x,z", "--json")
    found = json.loads(done.stdout)
    assert (found["questions"], found["best"], found["learnt"]) == (2, "x", "gold")
    assert [voter["name"] for voter in found["voters"]] == ["x", "z"]
    assert {"name", "accuracy", "vs_best", "vs_majority"} == set(found["systems"][0])


def test_golds_come_from_the_questions_where_the_answers_have_none(tmp_path):
    bare = [{key: value for key, value in said.items() if key != "gold"} for said in FILE]
    del bare[1]["id"]
    recorded(tmp_path, bare)
    recorded(
        tmp_path,
        [
            {"id": "q1", "text": "unlike", "kind": "number", "answer": "1"},
            {"id": "other", "text": "How many then?", "kind": "number", "answer": 2},
        ],
        "questions.jsonl",
    )
    done = eot(tmp_path, "eval", "questions.jsonl", "--replay", "answers.jsonl", "--json")
    found = json.loads(done.stdout)
    assert found["labelled"] == 2
    assert {voter["name"]: voter["alone"]["mean"] for voter in found["voters"]} == {"x": 0.5, "y": 0.5, "z": 0.5}


def test_a_labelled_question_says_of_what_kind_the_recorded_answers_are(tmp_path):
    said = [{"id": "q", "question": "Tell me of 7 things.", "candidates": [{"model": "x", "text": "Well: yes, I do."}]}]
    recorded(tmp_path, said)
    recorded(tmp_path, [{"id": "q", "text": "Is it?", "kind": "yesno", "answer": "yes"}], "questions.jsonl")
    done = eot(tmp_path, "eval", "questions.jsonl", "--replay", "answers.jsonl", "--json")
    assert json.loads(done.stdout)["voters"][0]["alone"]["mean"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval"], "--replay"),
        (["eval", "--replay", "nowhere.jsonl"], "there is no file"),
        (["eval", "--replay", "answers.jsonl", "--models", "x,w"], "no voter called 'w'"),
        (["eval", "--replay", "answers.jsonl", "--learn-weights", "eot.toml"], "holds something else"),
        (["eval", "--replay", "answers.jsonl", "--learn-weights", "."], "cannot be written"),
        (["eval", "--replay", "answers.jsonl", "--learn-weights", "no/w.toml"], "there is no folder"),
        (["eval", "nowhere.csv", "--replay", "answers.jsonl"], "there is no file nowhere.csv"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_two(tmp_path, words, said):
    recorded(tmp_path, FILE)
    (tmp_path / "eot.toml").write_text("threads = 1\n")
    done = eot(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "eot.toml").read_text() == "threads = 1\n"


def test_a_full_disk_leaves_the_weights_that_were_there_and_the_report(tmp_path, capsys):
    resource = pytest.importorskip("resource")
    target = tmp_path / "weights.toml"
    target.write_text(f"{HEADER} before\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    asked = Replaying(recorded(tmp_path, FILE), learn_weights=target)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # no file may grow past 10 bytes
    try:
        with pytest.raises(InputError, match="cannot be written"):
            replay_file(asked, None, as_json=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert target.read_text() == f"{HEADER} before\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "weights.toml"]
    assert json.loads(capsys.readouterr().out)["questions"] == 2


def test_a_gold_that_does_not_parse_is_refused_by_line(tmp_path):
    path = recorded(tmp_path, [FILE[0], FILE[1] | {"kind": "number", "gold": "plenty"}])
    with pytest.raises(AnswersError, match=r"line 2: \"gold\" is \"plenty\""):
        replay(read_answers(path))
