"""Labelled questions: what is read, what is refused and where, and whether an answer is right."""

import gzip
import json
from itertools import islice

import pytest

from eot.errors import AnswersError
from evaluation import grade, read_questions


@pytest.fixture
def written(tmp_path):
    def write(content, name="questions.jsonl"):
        path = tmp_path / name
        raw = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return write


ROWS = [
    {"id": "a", "text": "How many?", "kind": "number", "answer": "$1,018.0"},
    {"id": 7, "text": "Which?", "kind": "choice", "choices": {"A": "iron", "B": "oak"}, "answer": "(b)"},
    {"text": "Is it?", "kind": "yesno", "answer": True, "context": "It is."},
    {"text": "Why?", "kind": "open", "answer": " Because of the Rain. "},
    {"text": "Who?", "kind": "open"},
]
GOLDS = ["1018", "B", "yes", "Because of the Rain.", None]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_rows_are_read_with_canonical_golds_lines_and_ids(written, name):
    found = list(read_questions(written("\n\n".join(map(json.dumps, ROWS)), name)))
    assert [row.gold for row in found] == GOLDS
    assert [row.line for row in found] == [1, 3, 5, 7, 9]
    assert [row.question.id for row in found] == ["a", "7", "line-5", "line-7", "line-9"]
    assert found[1].question.choices == {"A": "iron", "B": "oak"}
    assert found[2].question.context == "It is."


CSV = """id,text,kind,choices,answer,context
a,"How many,
all in all?",number,,"1,018",
b,Which?,choice,"{""A"": ""iron"", ""B"": ""oak""}",B,
,Is it?,yesno,,no,It is not.
"""


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV"])
def test_csv_is_read_alike_with_the_line_a_row_begins_in(written, name):
    found = list(read_questions(written("\ufeff" + CSV.replace("\n", "\r\n"), name)))
    assert [(row.question.id, row.gold, row.line) for row in found] == [
        ("a", "1018", 2),
        ("b", "B", 4),
        ("line-5", "no", 5),
    ]
    assert found[0].question.text == "How many,\r\nall in all?"
    assert found[2].question.context == "It is not."


def test_csv_choices_may_stand_in_columns_of_their_own(written):
    (row,) = read_questions(written("question,A,B,C,gold\nWhich?,iron,oak,,b\n", "a.csv"))
    assert (row.kind, row.question.choices, row.gold) == ("choice", {"A": "iron", "B": "oak"}, "B")


@pytest.mark.parametrize(
    ("text", "gold", "kind"),
    [
        ("How many eggs?", "18", "number"),
        ("Hydrogen's number exceeds Spice Girls?", "no", "yesno"),
        ("Does each of 5 get 7, and how many in all?", 35, "number"),  # the wording alone would say yes or no
        ("Which floats? (A) iron (B) oak", "B", "choice"),
        ("Why does it rain?", "clouds", "open"),
    ],
)
def test_a_kind_that_is_not_named_is_read_from_the_text_and_the_gold(written, text, gold, kind):
    (row,) = read_questions(written(json.dumps({"text": text, "answer": gold})))
    assert row.kind == kind
    assert grade(str(gold), row) is True


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": "x", "answer": "3"}', "needs the question's text"),
        ('{"text": "  "}', "needs the question's text"),
        ('{"text": 3}', "needs the question's text"),
        ('{"text": "a?", "kind": "numbr"}', "known: number, choice, yesno, open, json"),
        ('{"text": "a?", "kind": ["number"]}', "known: number"),
        ('{"text": "How many?", "kind": "number", "answer": "plenty"}', "no answer to a question of kind number"),
        ('{"text": "How many?", "answer": "plenty"}', 'say "kind"'),
        ('{"text": "Is it?", "kind": "yesno", "answer": "perhaps"}', "kind yesno"),
        ('{"text": "Which?", "kind": "choice", "choices": ["a", "b"], "answer": "C"}', "its choices: A, B"),
        ('{"text": "Which?", "kind": "choice", "answer": "C"}', "two choices or more"),
        ('{"text": "Which?", "choices": {"A": 1}}', '"choices" is'),
        ('{"text": "a?", "answer": ["1"]}', '"answer" is'),
        ('{"text": "a?", "kind": "open", "answer": " "}', "kind open"),
        ('{"text": "a?", "id": [1]}', '"id" is'),
        ('{"text": "a\\u0000b?"}', "NUL"),
        ('{"text": "a\\ud800b?"}', "lone surrogate"),
        ('{"text": "a?", "kind": "open", "answer": "a\\u0000b"}', "NUL"),
        ('{"text": "a?", "choices": {"A": "a\\u0000", "B": "b"}}', "NUL"),
        ('{"text": "a?", "context": 3}', "context"),
        ("17", "read 17"),
        ('[{"text": "a?"}]', "one object a line"),
        ("{not json", "not JSON"),
        ('{"text": "a?", "id": "first"}', "line 1 already"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_by_file_and_line(written, row, said):
    path = written('{"id": "first", "text": "Who?"}\n' + row)
    with pytest.raises(AnswersError) as caught:
        list(read_questions(path))
    assert f"{path}, line 2: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,answer\n1,2\n", "line 1: the first row must name the columns"),
        ('text\n"never closed\n', "not CSV"),
        ("text,answer\na?,1,2\n", "line 2: more cells than columns"),
        ("text,answer,kind\nhow?,many,number\n", "line 2: "),
        ("text,choices\nWhich?,{A\n", '"choices" is not JSON'),
        ("text\na\0b?\n", "NUL"),
        ("text\n", "no rows"),
        ("", "no rows"),
        (b"text\n\xff\xfe?\n", "not UTF-8"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_refused(written, content, said):
    path = written(content, "a.csv")
    with pytest.raises(AnswersError) as caught:
        list(read_questions(path))
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.jsonl", "nowhere.csv", "empty.jsonl"])
def test_no_file_and_an_empty_one_are_refused(tmp_path, name):
    (tmp_path / "empty.jsonl").write_text(" \n")
    with pytest.raises(AnswersError, match=r"there is no file|has no rows"):
        list(read_questions(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_broken_archive_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"text": "a?"}\n' * 1000)[:30])
    with pytest.raises(AnswersError, match="cannot be read"):
        list(read_questions(path))


@pytest.mark.parametrize(
    ("name", "row"), [("a.jsonl", '{{"text": "Is it {}?", "kind": "yesno"}}\n'), ("a.csv", "Is it {}?,yesno\n")]
)
def test_a_hundred_thousand_rows_are_read_one_at_a_time(written, name, row):
    head = "text,kind\n" if name.endswith(".csv") else ""
    path = written(head + "".join(row.format(at) for at in range(100_000)) + "\0", name)
    rows = read_questions(path)
    assert len(list(islice(rows, 100_000))) == 100_000
    with pytest.raises(AnswersError, match=r"line 10000[12]"):
        next(rows)


@pytest.fixture
def labelled(written):
    def make(kind, gold, **more):
        return next(read_questions(written(json.dumps({"text": "What?", "kind": kind, "answer": gold, **more}))))

    return make


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "right"),
    [
        ("number", "18", "18.00", True),
        ("number", "0.5", "1/2", True),
        ("number", "18", "81", False),
        ("number", "18", None, False),
        ("yesno", "yes", "Yes.", True),
        ("yesno", "yes", "no", False),
        ("open", "The Nile", "nile", True),
        ("open", "the river Nile", "river Nile in Africa", True),
        ("open", "the river Nile", "the Amazon", False),
        ("open", "in 1912", "in 1913", False),
        ("open", "the river Nile", None, False),
    ],
)
def test_answers_are_graded_by_their_kind(labelled, kind, gold, answer, right):
    assert grade(answer, labelled(kind, gold)) is right


def test_choices_are_graded_by_letter_in_the_case_of_their_keys(labelled):
    row = labelled("choice", "b", choices={"a": "iron", "b": "oak"})
    assert [grade(answer, row) for answer in ("b", "a", "(B)", None)] == [True, False, True, False]


def test_a_question_without_gold_is_not_graded(written):
    assert grade("18", next(read_questions(written('{"text": "How many?"}')))) is None


def test_an_open_answer_is_judged_by_its_whole_text_where_that_is_nearer(labelled):
    row = labelled("open", "Rain falls because vapour condenses in clouds")
    assert grade("physics", row) is False
    assert grade("physics", row, "Because vapour condenses in the clouds, rain falls.") is True


def test_chinese_open_answers_are_compared_too(labelled):
    assert grade("因为水汽在云中凝结", labelled("open", "水汽在云中凝结")) is True
    assert grade("因为太阳很热", labelled("open", "水汽在云中凝结")) is False
