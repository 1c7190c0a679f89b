"""Files of answers from anywhere: every shape that is read, and what is said of a file that cannot be."""

import gzip
import json
from itertools import islice

import pytest

from eot.errors import AnswersError
from scoring import read_answers, vote


@pytest.fixture
def written(tmp_path):
    def write(content, name="answers.jsonl"):
        path = tmp_path / name
        raw = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return write


ROW = {
    "id": 7,
    "question": "How many apples are left?",
    "gold": "18.0",
    "candidates": [
        {"model": "a", "text": "The answer is 18.", "weight": 2, "confidence": 0.5},
        {"agent": "b", "text": "so 7", "answer": 7},
        {"voter": "c", "text": "The answer is 9.", "answer": None},
    ],
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json"])
def test_rows_are_read_with_their_question_ballots_and_gold(written, name):
    first, second = read_answers(written(f"{json.dumps(ROW)}\n\n{json.dumps(ROW)}\n", name))
    assert (first.id, first.kind, first.gold, second.line) == ("7", "number", "18", 3)
    assert [(b.voter, b.answer, b.weight, b.confidence) for b in first.ballots] == [
        ("a", "18", 2.0, 0.5),
        ("b", "7", 1.0, None),
        ("c", None, 1.0, None),
    ]


def test_a_document_over_many_lines_is_read_whole(written):
    assert [row.id for row in read_answers(written(json.dumps([ROW, ROW], indent=2), "a.json"))] == ["7", "7"]
    assert [row.id for row in read_answers(written(json.dumps(ROW, indent=2), "a.json"))] == ["7"]


def test_a_plain_list_of_texts_is_one_row(written):
    (row,) = read_answers(written('["The answer is 3", "The answer is 3!", "4"]', "a.json"))
    assert [ballot.voter for ballot in row.ballots] == ["1", "2", "3"]
    assert vote(row.ballots, kind=row.kind).answer == "3"


def test_answers_by_voter_need_no_texts(written):
    (row,) = read_answers(written('{"id": "x", "gold": "3", "answers": {"a": "3.0", "b": null, "c": "3"}}'))
    assert row.kind == "number"
    verdict = vote(row.ballots, kind=row.kind)
    assert (verdict.answer, verdict.support, verdict.abstained) == ("3", 1.0, ("b",))


def test_options_in_the_question_are_its_choices(written):
    candidates = [{"text": "It is the mall."}, {"text": "The answer is (B)."}]
    (row,) = read_answers(written(json.dumps({"question": "Where? (A) bank (B) mall", "candidates": candidates})))
    assert row.choices == {"A": "bank", "B": "mall"}
    assert [ballot.answer for ballot in row.ballots] == ["B", "B"]


def test_a_gold_says_of_what_kind_a_question_is_where_its_wording_misleads(written):
    asked = {"question": "Has Ann 7 or more?", "candidates": [{"text": "She has 7 + 34 = 41."}]}
    (without,) = read_answers(written(json.dumps(asked)))
    (row,) = read_answers(written(json.dumps(asked | {"gold": "41"})))
    assert without.kind != row.kind == "number"
    assert (row.gold, row.ballots[0].answer) == ("41", "41")


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ('{"candidates": ["a"], "kind": "number", "gold": "many"}', 1, "no answer to a question of kind number"),
        ("not json", 1, "not JSON"),
        ('{"candidates": ["a"]}\n{"candidates": [}', 2, "not JSON"),
        ('{"candidates": ["a"]}\n{"question": "q"}', 2, "no candidates"),
        ('{"candidates": []}', 1, "no candidates"),
        ('{"candidates": [3]}', 1, "candidate 1 is 3"),
        ('{"candidates": [{"model": "a"}]}', 1, 'neither "text" nor "answer"'),
        ('{"candidates": [{"text": 3}]}', 1, '"text" is 3; it must be a string'),
        ('{"candidates": [{"text": "a", "weight": "2"}]}', 1, '"weight" is "2"; it must be a number'),
        ('{"candidates": [{"text": "a", "weight": -2}]}', 1, "must be a number above 0"),
        ('{"candidates": [{"text": "a", "weight": NaN}]}', 1, "must be a number above 0"),
        ('{"candidates": [{"text": "a", "weight": 1' + "0" * 400 + "}]}", 1, "too large"),
        ('{"candidates": [{"text": "a", "confidence": -1' + "0" * 400 + "}]}", 1, "too large"),
        ('{"candidates": [{"text": "a", "weight": 1e400}]}', 1, "must be a number above 0"),
        ('{"candidates": [{"text": "a", "weight": -Infinity}]}', 1, "must be a number above 0"),
        ('{"candidates": [{"text": "a", "confidence": NaN}]}', 1, "must lie in 0..1"),
        ('{"candidates": [{"text": "a", "confidence": 2}]}', 1, "must lie in 0..1"),
        ('{"candidates": ["a"], "kind": "numbr"}', 1, "known: number, choice, yesno, open, json"),
        ('{"candidates": ["a\\u0000b"]}', 1, "NUL"),
        ('{"candidates": ["a\\ud800b"]}', 1, "lone surrogate"),
        ("17", 1, "read 17"),
        ("[" * 100_000, 1, "nested too deeply"),
        ('{"candidates": ["a"], "gold": ' + "9" * 5_000 + "}", 1, "number too long"),
    ],
)
def test_a_wrong_row_is_refused_by_file_and_line(written, content, line, said):
    path = written(content)
    with pytest.raises(AnswersError) as caught:
        list(read_answers(path))
    assert str(path) in str(caught.value)
    assert f"line {line}:" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused_and_told_what_a_row_is(written, content):
    with pytest.raises(AnswersError, match=r'has no rows; a row is \{"question"'):
        list(read_answers(written(content)))


def test_files_that_are_no_text_no_gzip_or_not_there_are_refused(written, tmp_path):
    for path in (written(b"\xff\xfe\x00"), tmp_path / "nowhere.jsonl", tmp_path):
        with pytest.raises(AnswersError, match=str(tmp_path)):
            list(read_answers(path))
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'["a"]\n' * 1000)[:40])
    with pytest.raises(AnswersError, match="broken"):
        list(read_answers(broken))


def test_rows_are_read_one_at_a_time(written):
    path = written(json.dumps(ROW) + "\n" + json.dumps(ROW) + "\nnot json\n")
    assert len(list(islice(read_answers(path), 2))) == 2
