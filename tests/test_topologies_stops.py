"""When an exchange ends, and how sure an agent is."""

from fractions import Fraction

import pytest
from exchanges import exchange
from hypothesis import given
from hypothesis import strategies as st

from topologies import Council
from topologies.confidence import confidence, confidence_as_published
from topologies.stops import speaking, why_stop

ANSWERS = st.lists(st.sampled_from(["18", "7", None]), min_size=2, max_size=9)


def fired(made, rules=("unanimous", "majority", "stable"), max_rounds=2, gate=0.5):
    council = Council(agents={}, topology="memory", hears=made.hears, stop=rules, rounds=max_rounds, gate=gate)
    stop = why_stop(made, council)
    return stop.rule if stop else None


def test_agreement_at_round_0_ends_it_before_any_exchange():
    assert fired(exchange(["18", "18", "18"])) == "unanimous"


def test_abstentions_do_not_break_unanimity_but_cannot_make_it():
    assert fired(exchange(["18", "18", None]), ["unanimous"]) == "unanimous"
    assert fired(exchange(["18", None, None]), ["unanimous"]) is None
    assert fired(exchange([None, None, None]), ["unanimous"]) is None


def test_more_than_half_of_the_seats_is_a_majority_and_half_is_not():
    assert fired(exchange(["18", "18", "7"]), ["majority"]) == "majority"
    assert fired(exchange(["18", "18", "7", "9"]), ["majority"]) is None
    assert fired(exchange(["18", None, None]), ["majority"]) is None


def test_a_higher_gate_asks_for_more_agreement_than_a_bare_majority():
    made = exchange(["18", "18", "7"])
    assert fired(made, ["majority"], gate=0.6) == "majority"
    assert fired(made, ["majority"], gate=0.7) is None
    assert fired(exchange(["18", "18", "18"]), ["majority"], gate=1.0) is None


def test_a_seat_that_was_not_asked_is_no_part_of_unanimity_and_counts_in_the_whole_of_a_majority():
    made = exchange(["18", "18", ""])
    assert fired(made, ["unanimous"]) is None
    assert fired(made, ["unanimous", "majority"]) == "majority"
    assert fired(exchange(["18", "18", "", ""]), ["majority"]) is None


def test_an_agent_that_repeats_itself_leaves_and_the_last_one_out_ends_it():
    made = exchange(["18", "7", "9"], ["18", "7", "8"])
    assert speaking(made, ["stable"]) == ("c",)
    assert fired(made, ["stable"]) is None
    assert fired(exchange(["18", "7", "9"], ["18", "7", "8"], ["", "", "8"]), ["stable"], 5) == "stable"


def test_two_unreadable_answers_are_not_a_repeated_one():
    assert speaking(exchange([None, "7"], [None, "8"]), ["stable"]) == ("a", "b")


def test_without_the_stable_rule_nobody_leaves():
    assert speaking(exchange(["18", "7"], ["18", "7"]), ["unanimous"]) == ("a", "b")


def test_the_cap_on_rounds_ends_what_no_rule_ends():
    assert fired(exchange(["1", "2", "3"], ["1", "2", "3"], ["1", "2", "3"]), []) == "rounds"
    assert fired(exchange(["1", "2", "3"]), [], max_rounds=0) == "rounds"


def test_the_published_rule_wants_every_seat_readable_and_the_same_string():
    assert fired(exchange(["18", "18", "18"], mode="eot-compat")) == "unanimous"
    assert fired(exchange(["18", "18", None], mode="eot-compat")) is None
    assert fired(exchange(["18", "18", "7"], mode="eot-compat"), ["majority"]) is None
    assert fired(exchange(["18", "18"], mode="eot-compat"), ["majority"]) == "unanimous"


def test_a_silent_agent_keeps_its_last_answer():
    assert fired(exchange(["18", "7", "18"], ["!", "18", "18"]), ["unanimous"]) == "unanimous"


@given(ANSWERS)
def test_unanimity_implies_a_majority_of_those_who_could_be_read(answers):
    if fired(exchange(answers), ["unanimous"]):
        assert len({answer for answer in answers if answer}) == 1


@given(ANSWERS, st.randoms())
def test_no_rule_depends_on_the_order_of_seats(answers, random):
    shuffled = random.sample(answers, len(answers))
    for rule in ("unanimous", "majority"):
        assert fired(exchange(answers), [rule]) == fired(exchange(shuffled), [rule])


def test_one_answer_says_nothing_about_confidence():
    assert confidence(["18"]) is None
    assert confidence([None, "18"]) is None
    assert confidence_as_published(["18"]) is None


def test_confidence_is_in_the_latest_answer_not_in_the_most_frequent_one():
    assert confidence(["18", "18", "99"]) == pytest.approx(1 / 3)
    assert confidence_as_published(["18", "18", "99"]) == pytest.approx(2 / 3)  # the published defect


def test_unreadable_answers_give_no_confidence():
    assert confidence([None, None, None]) is None
    assert confidence(["18", "18", None]) is None
    assert confidence_as_published([None, None, None]) == 1.0  # the published defect


@given(st.lists(st.sampled_from(["1", "2", None]), min_size=1, max_size=8))
def test_confidence_is_the_share_of_readable_answers_equal_to_the_latest(answers):
    readable = [answer for answer in answers if answer]
    if answers[-1] is None or len(readable) < 2:
        assert confidence(answers) is None
    else:
        assert confidence(answers) == float(Fraction(readable.count(answers[-1]), len(readable)))
