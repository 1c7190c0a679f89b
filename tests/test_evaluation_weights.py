"""What an agent's ballot should count, learnt with labels and without."""

import math
import random
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eot.settings import AgentSettings
from evaluation.dawid_skene import one_coin_accuracies, one_coin_weights
from evaluation.weights import Answered, labelled_accuracies, log_odds_weights, static_weights, toml_snippet
from scoring import Ballot, vote


def test_a_labelled_accuracy_is_shrunk_towards_point_seven_and_abstentions_do_not_count():
    history = [Answered({"a": "1", "b": "1"}, right=frozenset("ab" if at < 3 else "b")) for at in range(10)]
    history += [Answered({"b": "1"}, right=frozenset("b"))] * 40 + [Answered({"a": "1"})] * 99  # the last: no label
    found = labelled_accuracies(history)
    assert found["a"] == pytest.approx((3 + 7) / (10 + 10))
    assert found["b"] == 0.95  # 57 of 60, held
    always_wrong = [Answered({"c": "1"}, right=frozenset())] * 1000
    assert labelled_accuracies(always_wrong) == {"c": 0.05}  # 7 of 1010, held


def test_weights_are_log_odds_of_the_options_scaled_to_a_mean_of_one():
    history = [Answered({"a": "1", "b": "2"}, options=5)]
    found = log_odds_weights({"a": 0.8, "b": 0.5}, history)
    raw = math.log(0.8 * 4 / 0.2), math.log(0.5 * 4 / 0.5)  # 2.7726, 1.3863
    assert (found["a"], found["b"]) == pytest.approx((4 / 3, 2 / 3))
    assert raw[0] / raw[1] == pytest.approx(2)


def test_an_agent_worse_than_chance_keeps_a_ballot_that_is_next_to_nothing():
    found = log_odds_weights({"a": 0.05, "b": 0.9}, [Answered({"a": "1", "b": "2"}, options=2)])
    assert 0 < found["a"] < 0.02 < found["b"]
    assert vote([Ballot("a", "", "1", weight=found["a"]), Ballot("b", "", "2", weight=found["b"])], kind="number")


@pytest.mark.parametrize(
    ("history", "accuracies"),
    [
        ([Answered({"a": "1"})] * 10, {"a": 17 / 20}),  # alone it always agrees with itself: (10 + 7) / (10 + 10)
        ([Answered({"a": "1", "b": "2"})] * 10, {"a": 12 / 20, "b": 12 / 20}),  # each half of the truth: (5 + 7) / 20
        ([Answered({"a": "1", "b": "1"})] * 1000, {"a": 0.95, "b": 0.95}),  # held
        ([Answered({})] * 3, {}),
        ([], {}),
    ],
)
def test_agreement_alone_teaches_what_can_be_reckoned_by_hand(history, accuracies):
    assert one_coin_accuracies(history) == pytest.approx(accuracies)


def crowd(accuracies, questions, options, seed=0):
    """Agents that err independently: the history, and nobody's label in it."""
    drawn = random.Random(seed)
    history = []
    for _ in range(questions):
        truth = drawn.randrange(options)
        said = {
            agent: truth if drawn.random() < p else drawn.choice([at for at in range(options) if at != truth])
            for agent, p in accuracies.items()
        }
        history.append(Answered({agent: str(at) for agent, at in said.items()}, options=options))
    return history


@pytest.mark.parametrize("options", [2, 4])
def test_accuracies_of_agents_that_err_alone_are_found_without_a_label(options):
    true = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "e": 0.55}
    assert one_coin_accuracies(crowd(true, 3000, options)) == pytest.approx(true, abs=0.04)


def test_two_good_agents_outvote_three_weak_ones_by_what_they_learnt():
    weights = one_coin_weights(crowd({"a": 0.92, "b": 0.92, "c": 0.4, "d": 0.4, "e": 0.4}, 500, 4))
    ballots = [Ballot(voter, "", "1" if voter in "ab" else "2", weight=weights[voter]) for voter in weights]
    assert vote(ballots, kind="number", method="majority").answer == "1"


def test_a_clique_that_errs_together_is_believed_but_never_wholly():
    """The known limit: agreement is all that can be seen. The clamp keeps the honest ones in the vote."""
    history = [Answered({"a": "x", "b": "x", "c": "x", "d": str(at)}) for at in range(500)]
    found = one_coin_accuracies(history)
    assert found["a"] == 0.95
    assert found["d"] == pytest.approx(0.05, abs=0.01)
    assert min(one_coin_weights(history).values()) > 0


histories = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"), max_size=4).map(Answered), min_size=1, max_size=12
)


@given(histories, st.randoms())
def test_neither_the_order_of_questions_nor_the_names_of_answers_matter(history, drawn):
    found = one_coin_accuracies(history)
    turned = [Answered({agent: f"<{said}>" for agent, said in row.answers.items()}) for row in history]
    drawn.shuffle(turned)
    assert one_coin_accuracies(turned) == pytest.approx(found, abs=1e-4)
    assert all(0.05 <= p <= 0.95 for p in found.values())


@given(histories)
def test_every_learnt_weight_can_weigh_a_ballot(history):
    labelled = [Answered(row.answers, right=frozenset(sorted(row.answers)[:1])) for row in history]
    for weights in (one_coin_weights(history), static_weights(labelled)):
        assert all(Ballot("v", "", "1", weight=weight) for weight in weights.values())
        if weights:
            assert sum(weights.values()) / len(weights) == pytest.approx(1)


def test_the_snippet_is_what_eot_toml_takes_whatever_the_names():
    weights = {"coder": 1.25, "gpt-4.5 (new)": 0.5, 'a"b\\c\n': 0.25, "模型🙂": 2.0, "": 1.0, "\x7f": 1.0}
    text = toml_snippet(weights, "so many questions\nof a file")
    found = tomllib.loads(text)["agents"]
    assert {name: table["weight"] for name, table in found.items()} == weights
    assert all(AgentSettings(model="scripted", **table) for table in found.values())
    assert text.startswith("# Weights learnt by `eot eval --learn-weights`: so many questions of a file")
