"""The published code's rules, its defects included: what reproduction needs, and what the default does better."""

import pytest

from scoring import Ballot, read_answer, read_as_published, vote, vote_as_published


@pytest.mark.parametrize(
    ("text", "kind", "published", "ours"),
    [
        ("So the answer is 18.", "number", "18", "18"),
        ("So the answer is $1,018.50 a day", "number", "1018.50", "1018.5"),
        ("The answer is 18. I used 5 eggs.", "number", "5", "18"),  # defect: a capital T is no mark, so the last number
        ("It is 18.0", "number", "18.0", "18"),  # defect: "18.0" will not equal "18"
        ("I cannot say.", "number", None, None),
        ("the answer is (C)", "choice", "C", "C"),
        ("I think of bank ABOVE all", "choice", "E", None),  # defect: a letter inside a word
        ("the answer is: Yes.", "yesno", "yes", "yes"),
        ("Hmm. Yes", "yesno", "yes", "yes"),
    ],
)
def test_what_the_published_reader_makes_of_a_text_beside_ours(text, kind, published, ours):
    assert read_as_published(text, kind) == published
    assert read_answer(text, kind, {letter: letter for letter in "ABCDE"} if kind == "choice" else {}) == ours


def ballots(*answers):
    return [Ballot(voter=f"v{at}", text=f"I say {answer}", answer=answer) for at, answer in enumerate(answers)]


def test_a_tie_goes_to_the_one_said_first_and_is_told():
    verdict = vote_as_published(ballots("7", "18", "18", "7"))
    assert (verdict.answer, verdict.tie, verdict.agent) == ("7", True, "v0")


def test_equal_numbers_written_differently_are_two_answers_there_and_one_here():
    assert vote_as_published(ballots("7", "18", "18.0")).answer == "7"
    assert vote(ballots("7", "18", "18"), kind="number").answer == "18"


def test_where_the_published_code_crashes_there_is_no_answer():
    verdict = vote_as_published(ballots(None, None, None))
    assert verdict.answer is None
    assert verdict.abstained == ("v0", "v1", "v2")
