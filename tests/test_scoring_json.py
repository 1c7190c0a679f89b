"""JSON answers: found in a reply, held against a schema, and voted on field by field."""

import json
import time

import pytest

from eot.errors import QuestionError
from scoring import Ballot, NoJsonError, json_in, read_answer, schema_check, vote


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (" 7 ", 7),
        ('First {"a": 1}, but then:\n```json\n{"a": 2}\n```\nDone.', {"a": 2}),
        ('So it is {"a": {"b": [1, 2]}}.', {"a": {"b": [1, 2]}}),
        ('{"draft": 1} and finally {"a": "}"}', {"a": "}"}),
        ("```\nnot json\n```\n[1]", [1]),
    ],
)
def test_the_last_json_of_a_reply_is_its_answer(text, value):
    assert json_in(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "none", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', "[" * 100_000, '{"a":' * 20_000, "{'a': 1}"],
)
def test_what_is_no_json_is_said_to_be_none_and_soon(text):
    started = time.monotonic()
    with pytest.raises(NoJsonError):
        json_in(text)
    assert time.monotonic() - started < 2


def test_equal_values_are_equal_answers():
    assert read_answer('{"b": 1.0, "a": "x"}', "json") == read_answer('```json\n{"a":"x", "b": 1}\n```', "json")


def ballots(*answers):
    return [
        Ballot(voter=name, text=answer, answer=read_answer(answer, "json"))
        for name, answer in zip("abcdefg", answers, strict=False)
    ]


def test_each_field_goes_to_its_own_majority():
    verdict = vote(
        ballots('{"n": 1, "c": "red"}', '{"n": 1, "c": "blue"}', '{"n": 2, "c": "Blue "}', "no json"), kind="json"
    )
    assert json.loads(verdict.text) == {"n": 1, "c": "blue"}
    assert verdict.agent == "b"
    assert verdict.support == pytest.approx(2 / 3)
    assert verdict.abstained == ("d",)
    assert verdict.how == "each field by majority of 3"


def test_nested_objects_are_merged_and_arrays_count_whole():
    verdict = vote(
        ballots(
            '{"a": {"x": 1, "y": 2}, "l": [1, 2]}',
            '{"a": {"x": 1, "y": 3}, "l": [2, 1]}',
            '{"a": {"x": 9, "y": 3}, "l": [1, 2]}',
        ),
        kind="json",
    )
    assert json.loads(verdict.text) == {"a": {"x": 1, "y": 3}, "l": [1, 2]}


def test_a_field_that_most_leave_out_is_left_out():
    verdict = vote(ballots('{"a": 1, "b": 2}', '{"a": 1}', '{"a": 1}'), kind="json")
    assert json.loads(verdict.text) == {"a": 1}


def test_a_tie_goes_to_who_agrees_most_elsewhere():
    verdict = vote(
        ballots('{"x": 9, "y": 9, "t": "one"}', '{"x": 1, "y": 1, "t": "two"}', '{"x": 1, "y": 1, "t": "three"}'),
        kind="json",
    )
    assert json.loads(verdict.text) == {"x": 1, "y": 1, "t": "two"}


def test_fields_that_do_not_fit_together_give_way_to_a_whole_answer():
    given = ballots('{"a": 1, "b": 0, "c": 1}', '{"a": 1, "b": 1, "c": 0}', '{"a": 0, "b": 1, "c": 1}')
    verdict = vote(given, kind="json", fits=lambda value: sum(value.values()) == 2)
    assert json.loads(verdict.text) == {"a": 1, "b": 0, "c": 1}
    assert "do not fit together" in verdict.how


def test_equal_answers_are_unanimous():
    verdict = vote(ballots('{"a": 1}', '{"a": 1.0}'), kind="json")
    assert (verdict.how, verdict.support) == ("unanimous 2 of 2", 1.0)


def schema(**more):
    return json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]} | more)


def test_a_schema_says_what_is_wrong():
    check = schema_check(schema(additionalProperties=False))
    assert check({"n": 1}) == ""
    assert check({"n": "1"}) == "$.n: '1' is not of type 'integer'"
    assert "required" in check({})
    assert "Additional" in check({"n": 1, "m": 2})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('{"type": "objekt"}', "no JSON schema"),
        ("7", "no JSON schema"),
        ('{"$ref": "http://127.0.0.1:1/x"}', "to elsewhere"),
        ('{"$ref": "file:///etc/passwd"}', "to elsewhere"),
        ('{"$id": "http://127.0.0.1:1/x"}', "'$id'"),
        ('{"patternProperties": {"(a+)+$": {}}}', "patternProperties"),
        ('{"not":' * 60 + "{}" + "}" * 60, "nested deeper"),
        ('{"description": "' + "x" * 70_000 + '"}', "70,"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(wrong, said):
    with pytest.raises(QuestionError, match=said.replace("$", "\\$")):
        schema_check(wrong)


def test_a_schema_that_would_take_for_ever_does_not():
    """Each definition names the next one twice: 2^30 steps if nobody counted."""
    twice = {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(30)}
    laughs = json.dumps({"$defs": twice | {"d30": {}}, "$ref": "#/$defs/d0"})
    evil = json.dumps({"type": "string", "pattern": "^(a+)+$"})
    loop = json.dumps({"$ref": "#"})
    started = time.monotonic()
    assert schema_check(laughs)(1) == "it is nested too deeply for its schema"
    assert schema_check(evil)("a" * 40 + "!") == ""
    assert "too deeply" in schema_check(loop)(1)
    assert "to nowhere" in schema_check('{"$ref": "#/$defs/none"}')(1)
    assert time.monotonic() - started < 3
