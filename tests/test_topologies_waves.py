"""Whom to ask next in round 0: enough to settle the vote, and nobody who could change nothing."""

import itertools

import pytest
from exchanges import exchange
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import Ballot, vote
from topologies import Council
from topologies.waves import next_wave


def council(seats, **rules):
    return Council(agents=dict.fromkeys(seats), topology="memory", hears=dict.fromkeys(seats, ()), **rules)


def asked_of(said, **rules):
    """Who is asked, wave after wave, when the seats would say these answers."""
    whole = exchange(list(said), kind=rules.pop("kind", "number"), mode=rules.pop("mode", "default"))
    house, waves, turns = council(whole.seats, **rules), [], []
    while wave := next_wave(whole.model_copy(update={"rounds": (tuple(turns),)}), house):
        waves.append("".join(wave))
        turns += [turn for turn in whole.rounds[0] if turn.agent in wave]
    return waves


def test_three_equals_are_asked_as_two_and_the_third_only_where_they_differ():
    assert asked_of(["18", "18", "7"]) == ["ab"]
    assert asked_of(["18", "7", "18"]) == ["ab", "c"]
    assert asked_of(["18", None, "18"]) == ["ab", "c"]


def test_five_equals_are_asked_as_three_and_then_as_many_as_are_missing():
    assert asked_of(["1", "1", "1", "2", "2"]) == ["abc"]
    assert asked_of(["1", "1", "2", "1", "2"]) == ["abc", "d"]
    assert asked_of(["1", "2", "3", "1", "1"]) == ["abc", "de"]


def test_the_heaviest_ballots_are_asked_first():
    assert asked_of(["1", "2", "2"], weights={"a": 0.2, "b": 1.0, "c": 1.1}) == ["bc"]


def test_a_quorum_speaks_even_where_one_ballot_outweighs_all_the_others():
    weights = {"a": 9.0, "b": 1.0, "c": 1.0}
    assert asked_of(["1", "2", "3"], weights=weights) == ["a"]
    assert asked_of(["1", "2", "3"], weights=weights, quorum=2) == ["ab"]


def test_a_silent_seat_is_replaced_by_the_next():
    assert asked_of(["1", "!", "1"], quorum=2) == ["ab", "c"]


@pytest.mark.parametrize(
    "rules",
    [
        {"lazy": False},
        {"stop": ("unanimous",)},
        {"gate": 1.0},
        {"vote": "sum"},
        {"kind": "open"},
        {"mode": "eot-compat"},
    ],
)
def test_all_are_asked_at_once_where_a_majority_does_not_settle_it(rules):
    assert asked_of(["1", "1", "1"], **rules) == ["abc"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=2, max_size=6), st.data())
def test_whoever_was_not_asked_could_not_have_changed_the_answer(said, data):
    if set(said) == {None}:
        return
    weights = {chr(ord("a") + at): data.draw(st.sampled_from([0.5, 1.0, 2.0])) for at in range(len(said))}
    asked = "".join(asked_of(said, weights=weights))
    left = [seat for seat in weights if seat not in asked]
    voted = {seat: answer for seat, answer in zip(weights, said, strict=True) if seat in asked}
    for others in itertools.product(["1", "2", "3", "4"], repeat=len(left)):
        if left:
            assert winner(voted | dict(zip(left, others, strict=True)), weights) == winner(voted, weights)


def winner(said, weights):
    ballots = [Ballot(voter=seat, text="", answer=said[seat], weight=weights[seat]) for seat in weights if seat in said]
    return vote(ballots, kind="number").answer
