"""The vote: who wins, how ties fall, what counts, and what is said of it."""

import random
import subprocess
import sys
from inspect import ismodule

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import scoring
from eot.errors import MissingExtraError, NoQuorumError, UnknownNameError
from scoring import METHODS, Ballot, vote
from scoring.vote import WITHOUT_EMBEDDING

WITHOUT_MODEL = [method for method in METHODS if method != "emb_a_s"]


def ballots(*answers, **common):
    return [Ballot(f"agent{at}", f"I think it is {answer}", answer, **common) for at, answer in enumerate(answers)]


def lengths(texts):
    """Real vectors of real texts, though not of their meaning: vowel counts."""
    return np.array([[text.count(vowel) + 0.1 for vowel in "aeiou"] for text in texts])


def test_the_majority_wins_and_the_dissent_is_listed():
    verdict = vote(ballots("18", "18.0", "7"), kind="number")
    assert (verdict.answer, verdict.how, verdict.tie) == ("18", "majority 2 of 3", False)
    assert (verdict.support, verdict.margin) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert [(support.answer, support.agents) for support in verdict.dissent] == [("7", ("agent2",))]


def test_all_of_one_mind_are_unanimous():
    verdict = vote(ballots("18", "$18", "eighteen"), kind="number")
    assert (verdict.how, verdict.support, verdict.margin) == ("unanimous 3 of 3", 1.0, 1.0)


@pytest.mark.parametrize("method", WITHOUT_MODEL)
def test_an_abstention_never_wins_however_many_abstain(method):
    silent = [Ballot(f"silent{at}", "I think it is something I cannot name") for at in range(5)]
    verdict = vote([*silent, *ballots("18")], method=method, kind="number")
    assert (verdict.answer, verdict.agent, verdict.how, verdict.support) == ("18", "agent0", "only voice", 1.0)
    assert verdict.abstained == tuple(ballot.voter for ballot in silent)


def test_an_answer_that_is_none_of_its_kind_is_an_abstention():
    verdict = vote(ballots("many", "many", "7"), kind="number")
    assert (verdict.answer, verdict.abstained) == ("7", ("agent0", "agent1"))


def test_empty_texts_and_refusals_are_dropped_before_the_vote_and_named():
    spoken = [
        Ballot("mute", " \n"),
        Ballot("shy", "I'm sorry, but I can't help with that.", "i'm sorry"),
        *ballots("Paris", "paris!"),
    ]
    verdict = vote(spoken, kind="open")
    assert (verdict.answer, verdict.support) == ("paris", 1.0)
    assert set(verdict.abstained) == {"mute", "shy"}
    assert any("mute" in note for note in verdict.notes)
    assert any("shy" in note for note in verdict.notes)


@pytest.mark.parametrize("nobody", [[], [Ballot("a", ""), Ballot("b", "  ")]])
def test_a_vote_without_a_word_is_no_vote(nobody):
    with pytest.raises(NoQuorumError):
        vote(nobody, kind="number")


@pytest.mark.parametrize("method", WITHOUT_MODEL)
def test_between_two_who_disagree_similarity_cannot_decide_so_weight_does(method):
    one, two = Ballot("light", "it is 1", "1"), Ballot("heavy", "it is 2, I am sure", "2", weight=1.5)
    verdict = vote([one, two], method=method, kind="number")
    assert (verdict.answer, verdict.signals) == ("2", ())


@pytest.mark.parametrize("method", WITHOUT_MODEL)
def test_between_equals_confidence_decides_and_then_the_order(method):
    sure = vote([Ballot("a", "1", "1", 0.4), Ballot("b", "2", "2", 0.9)], method=method, kind="number")
    assert sure.answer == "2"
    first = vote(ballots("1", "2"), method=method, kind="number")
    assert (first.answer, first.tie, first.how) == ("1", True, "tie broken by order")
    assert any("symmetric" in note for note in first.notes)


def test_a_tie_of_many_falls_to_the_text_most_like_the_others():
    texts = ["entirely elsewhere 1", "we add two and two 2", "we add two and two and five 3", "we add two 4"]
    verdict = vote([Ballot(text[-1], text, text[-1]) for text in texts], kind="number")
    assert (verdict.answer, verdict.tie, verdict.how) == ("2", True, "tie broken by word+char similarity")


def test_the_text_that_speaks_for_the_winners_is_the_one_most_like_the_others():
    texts = ["zzz 18", "we add nine and nine to get 18", "we add nine and nine and get 18", "we add nine to get 7"]
    verdict = vote([Ballot(str(at), text, text.split()[-1]) for at, text in enumerate(texts)], kind="number")
    assert (verdict.answer, verdict.agent) == ("18", "1")


def test_open_answers_without_a_majority_go_to_the_most_typical_text():
    texts = [
        "Go is a board game",
        "Go is an old board game from China",
        "Go is an old game from China",
        "Bananas are yellow",
    ]
    verdict = vote([Ballot(str(at), text, text) for at, text in enumerate(texts)], kind="open")
    assert verdict.how == "most like the others by word+char"
    assert verdict.agent in ("1", "2")
    assert verdict.support == 0.25
    majority = vote(
        [*[Ballot(str(at), "yellow", "Yellow!") for at in range(3)], Ballot("3", "blue", "blue")], kind="open"
    )
    assert (majority.answer, majority.how) == ("yellow", "majority 3 of 4")


def test_when_nobody_could_be_read_a_text_is_chosen_without_an_answer():
    verdict = vote([Ballot("a", "x y"), Ballot("b", "x z"), Ballot("c", "x y z")], kind="number")
    assert (verdict.answer, verdict.agent, verdict.support) == (None, "c", 0.0)
    assert any("no answer could be read" in note for note in verdict.notes)


def test_weight_and_confidence_multiply_and_a_missing_confidence_is_the_usual_one():
    two_against_one = [Ballot("a", "1", "1", 0.9), Ballot("b", "2", "2", 0.2), Ballot("c", "2", "2", 0.3)]
    assert vote(two_against_one, method="confidence", kind="number").answer == "1"
    assert vote(two_against_one, method="majority", kind="number").answer == "2"
    unknown = [Ballot("a", "1", "1", 0.5), Ballot("b", "2", "2"), Ballot("c", "2", "2")]
    verdict = vote(unknown, method="confidence", kind="number")
    assert (verdict.answer, verdict.support) == ("2", pytest.approx(2 / 3))


def test_a_static_weight_counts_in_every_vote_by_answer():
    heavy = [Ballot("a", "1", "1", weight=3), Ballot("b", "2", "2"), Ballot("c", "2", "2")]
    verdict = vote(heavy, kind="number")
    assert (verdict.answer, verdict.support, verdict.how) == ("1", 0.6, "majority 1 of 3 by weight")


def test_a_weight_lends_its_voter_influence_on_who_is_typical():
    texts = ["red green blue", "red green pink", "cat dog cow", "cat dog pig"]

    def spokesman(*weights):
        return vote(
            [Ballot(text, text, weight=weight) for text, weight in zip(texts, weights, strict=True)],
            method="word_a_f",
            kind="open",
        ).agent

    assert spokesman(1, 1, 1, 5) == "cat dog cow"
    assert spokesman(5, 1, 1, 1) == "red green pink"


def test_the_sum_says_which_signals_it_used():
    alone = vote(ballots("1", "2", "3"), method="sum", kind="number")
    assert alone.signals == ("word_a_f", "char_a_f")
    assert WITHOUT_EMBEDDING in alone.notes
    helped = vote(ballots("1", "2", "3"), method="sum", kind="number", embed=lengths)
    assert helped.signals == ("emb_a_s", "word_a_f", "char_a_f")
    assert WITHOUT_EMBEDDING not in helped.notes
    assert {len(helped.scores[signal]) for signal in helped.signals} == {3}


@pytest.mark.parametrize(
    ("method", "kind", "wanted"),
    [
        ("auto", "open", True),
        ("sum", "number", True),
        ("auto", "number", False),
        ("auto", "choice", False),
        ("auto", "yesno", False),
        ("majority", "open", False),
        ("confidence", "open", False),
        ("word_a_f", "open", False),
    ],
)
def test_a_missing_embedding_model_is_told_of_only_where_it_would_have_been_used(method, kind, wanted):
    said = {"number": "123", "choice": "ABC", "yesno": ["yes", "no", None], "open": ["red", "green", "blue"]}[kind]
    crowd = [Ballot(f"v{at}", f"text {at}, {answer}", answer) for at, answer in enumerate(said)]
    without, helped = vote(crowd, method=method, kind=kind), vote(crowd, method=method, kind=kind, embed=lengths)
    assert (WITHOUT_EMBEDDING in without.notes, "emb_a_s" in helped.signals) == (wanted, wanted)


def test_a_vote_that_compared_no_texts_lacks_no_embedding_model():
    assert vote(ballots("red", "red", "red"), kind="open").notes == ()


def test_the_embedding_vote_takes_the_text_nearest_to_all():
    texts = ["aaa", "aaae", "ae", "uuu"]
    verdict = vote([Ballot(text, text, text) for text in texts], method="emb_a_s", kind="open", embed=lengths)
    assert (verdict.agent, verdict.signals) == ("aaae", ("emb_a_s",))


def test_the_embedding_vote_without_a_model_says_what_to_install():
    with pytest.raises(MissingExtraError, match=r"\[embed\]"):
        vote(ballots("1", "2", "3"), method="emb_a_s", kind="number")


def test_an_unknown_vote_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="Did you mean 'majority'"):
        vote(ballots("1"), method="majorty", kind="number")


@pytest.mark.parametrize("fields", [{"weight": 0}, {"weight": float("nan")}, {"weight": -1}, {"confidence": 1.5}])
def test_a_ballot_with_an_impossible_weight_or_confidence_is_refused(fields):
    with pytest.raises(ValueError, match="must"):
        Ballot("a", "text", "1", **fields)


def test_choices_keep_the_spelling_of_their_key():
    assert vote([Ballot("x", "t", "a"), Ballot("y", "u", "a"), Ballot("z", "v", "b")], kind="choice").answer == "a"
    assert vote([Ballot("x", "t", "B"), Ballot("y", "u", "b"), Ballot("z", "v", "C")], kind="choice").support > 0.6


def test_the_winners_vote_keeps_empty_texts_and_gives_ties_to_the_lowest_index():
    said = [Ballot("a", "one two."), Ballot("b", ""), Ballot("c", "two one."), Ballot("d", "one two.")]
    verdict = vote(said, method="word_a_f", kind="open", wsdm=True)
    assert (verdict.agent, verdict.voters) == ("a", ("a", "b", "c", "d"))
    assert verdict.scores["word_a_f"][0][1] == -2
    assert [row[at] for at, row in enumerate(verdict.scores["word_a_f"])] == [1, 1, 1, 1]


@pytest.mark.parametrize("wsdm", [True, False])
def test_support_is_of_the_ballots_that_could_be_read_in_the_winners_vote_too(wsdm):
    said = [*ballots("7", "7"), Ballot("vague", "I think it is something I cannot name"), Ballot("mute", "")]
    verdict = vote(said, method="word_a_f", kind="number", wsdm=wsdm)
    assert (verdict.answer, verdict.support, verdict.abstained) == ("7", 1.0, ("vague", "mute"))


def test_the_winners_vote_knows_no_weights():
    said = [Ballot("a", "red green"), Ballot("b", "red green blue"), Ballot("c", "cat dog cow", weight=100)]
    assert vote(said, method="char_a_f", kind="open", wsdm=True).agent in ("a", "b")


def test_votes_on_ten_megabytes_read_the_end_alone_and_say_so():
    said = [
        Ballot("a", "x y z " * 1_700_000, "1"),
        Ballot("b", "北京 " * 3_000_000, "2"),
        Ballot("c", "z" * 10**7, "3"),
    ]
    verdict = vote(said, method="word_a_f", kind="number")
    assert any("20,000 characters" in note for note in verdict.notes)
    assert vote(said, method="word_a_f", kind="number", wsdm=True).agent == "a"


def test_every_public_name_of_scoring_is_there_and_none_is_hidden():
    public = {name for name, value in vars(scoring).items() if not name.startswith("_") and not ismodule(value)}
    assert public == set(scoring.__all__)


def test_importing_scoring_loads_nothing_heavy():
    heavy = "{'numpy', 'rapidfuzz', 'jieba', 'torch', 'sentence_transformers', 'litellm', 'langgraph'}"
    check = f"import sys, scoring; print(*sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True).stdout.strip() == ""
    )


crowd = st.lists(
    st.tuples(
        st.sampled_from("1234"),
        st.sampled_from(["so it is", "we add and get", "clearly", "I guess"]),
        st.integers(1, 5),
    ),
    min_size=1,
    max_size=7,
)


def cast(drawn, scale=1.0):
    return [
        Ballot(f"v{at}", f"{words} {answer}", answer, weight=w * scale) for at, (answer, words, w) in enumerate(drawn)
    ]


@settings(deadline=None)
@given(crowd, st.sampled_from(WITHOUT_MODEL), st.randoms(use_true_random=False))
def test_the_winning_answer_does_not_depend_on_the_order_of_the_ballots(drawn, method, chance: random.Random):
    said = cast(drawn)
    verdict = vote(said, method=method, kind="number")
    assume(not verdict.tie)
    chance.shuffle(said)
    again = vote(said, method=method, kind="number")
    assert (again.answer, again.support, again.tie) == (verdict.answer, verdict.support, False)


@settings(deadline=None)
@given(crowd, st.sampled_from(WITHOUT_MODEL), st.sampled_from([0.1, 1 / 3, 7.0, 1e6]))
def test_only_the_proportions_of_the_weights_count(drawn, method, scale):
    verdict = vote(cast(drawn), method=method, kind="number")
    scaled = vote(cast(drawn, scale), method=method, kind="number")
    assert (scaled.answer, scaled.agent, scaled.tie) == (verdict.answer, verdict.agent, verdict.tie)
    assert scaled.support == pytest.approx(verdict.support)


@settings(deadline=None)
@given(crowd, st.sampled_from(WITHOUT_MODEL))
def test_the_same_ballots_give_the_same_verdict_ties_included(drawn, method):
    assert vote(cast(drawn), method=method, kind="number") == vote(cast(drawn), method=method, kind="number")


@settings(deadline=None)
@given(crowd, st.sampled_from(["auto", "majority"]))
def test_the_winner_has_the_largest_share_and_shares_make_a_whole(drawn, method):
    verdict = vote(cast(drawn), method=method, kind="number")
    shares = [support.share for support in verdict.supports]
    assert verdict.support == pytest.approx(max(shares))
    assert sum(shares) == pytest.approx(1)
