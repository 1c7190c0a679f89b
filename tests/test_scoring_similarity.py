"""Similarities: ROUGE-L to the last digit, in English and Chinese, and the WSDM Cup winner's own arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from scoring import wsdm
from scoring.similarity import char_a_f, emb_a_s, tokens, word_a_f


class Words:
    tokenize = staticmethod(tokens)


class Characters:
    @staticmethod
    def tokenize(text):
        return list(" ".join(text.lower().split()))


def by_rouge_score(texts, tokenizer):
    scorer = RougeScorer(["rougeL"], tokenizer=tokenizer())
    return np.array([[scorer.score(a, b)["rougeL"].fmeasure for b in texts] for a in texts])


PHRASES = [
    "the cat",
    "sat",
    "on 3.5 mats",
    "Café",
    "答案是四十二个苹果",
    "北京",
    "因为",
    "。",
    "，",
    "ＡＢＣ",
    " ",
    "\n",
    "...",
    "x_y",
]
mixed = st.lists(st.sampled_from(PHRASES), max_size=8).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(mixed, min_size=1, max_size=5))
def test_words_and_characters_score_as_google_rouge_score_does(texts):
    assert np.abs(word_a_f(texts) - by_rouge_score(texts, Words)).max() <= 1e-9
    assert np.abs(char_a_f(texts) - by_rouge_score(texts, Characters)).max() <= 1e-9


def test_chinese_answers_are_compared_by_their_words_not_by_the_digits_between_them():
    scores = word_a_f(["答案是四十二，因为六乘以七", "答案是四十二，因为六乘以七得出", "今天天气很好 42"])
    assert scores[0, 1] > 0.8
    assert scores[0, 2] < 0.2


def test_an_empty_text_is_like_nothing_not_even_itself():
    for scores in (word_a_f(["", "", "a"]), char_a_f(["", " ", "a"]), word_a_f(["...", "!", "a"])):
        assert scores.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_no_texts_make_an_empty_matrix():
    assert word_a_f([]).shape == char_a_f([]).shape == (0, 0)


def test_an_opposite_embedding_counts_as_unlike_never_as_less():
    vectors = {"a": [2.0, 0.0], "b": [-1.0, 0.0], "c": [1.0, 1.0], "d": [0.0, 0.0]}
    scores = emb_a_s(list("abcda"), lambda texts: np.array([vectors[text] for text in texts]))
    expected = [
        [1, 0, 0.5**0.5, 0, 1],
        [0, 1, 0, 0, 0],
        [0.5**0.5, 0, 1, 0, 0.5**0.5],
        [0, 0, 0, 0, 0],
        [1, 0, 0.5**0.5, 0, 1],
    ]
    assert scores == pytest.approx(np.array(expected))


@pytest.mark.parametrize("vectors", [np.zeros((1, 2)), np.zeros(2), np.array([[np.nan], [1.0]])])
def test_an_embedder_that_returns_the_wrong_shape_or_nan_is_named(vectors):
    with pytest.raises(ValueError, match="one finite vector each is needed"):
        emb_a_s(["a", "b"], lambda _: vectors)


@settings(deadline=None)
@given(st.lists(mixed, min_size=2, max_size=5))
def test_matrices_are_symmetric_and_lie_between_nothing_and_all(texts):
    for scores in (word_a_f(texts), char_a_f(texts)):
        assert (scores == scores.T).all()
        assert ((scores >= 0) & (scores <= 1)).all()


ANSWERS = [
    "The capital of France is Paris. It lies on the Seine. Pi is 3.14 there.",
    "Paris is the capital of France.  It has 2 rivers. ",
    "the the the capital",
    "...",
]


def test_the_winners_word_scores_are_those_of_the_package_rouge():
    # rouge 1.0.1: Rouge().get_scores(hyps=[a], refs=[b], avg=True)["rouge-l"]["f"], -2 where it raised
    expected = [
        [1.0, 0.46153845665680476, 0.2352941155709343, -2.0],
        [0.46153845665680476, 1.0, 0.30769230508875745, -2.0],
        [0.2352941155709343, 0.30769230508875745, 1.0, -2.0],
        [-2.0, -2.0, -2.0, 1.0],
    ]
    assert wsdm.word_a_f(ANSWERS).tolist() == expected


def test_the_winners_character_scores_are_those_of_its_own_table():
    # their lcs() run on these texts: 2pr/(p+r) without an epsilon, -2 where it divided by zero
    expected = [
        [1.0, 0.5619834710743802, 0.31111111111111106, 0.08108108108108109],
        [0.5619834710743802, 1.0, 0.37681159420289856, 0.07547169811320754],
        [0.31111111111111106, 0.37681159420289856, 1.0, -2.0],
        [0.08108108108108109, 0.07547169811320754, -2.0, 1.0],
    ]
    assert wsdm.char_a_f(ANSWERS).tolist() == expected


def test_the_winners_words_are_sets_over_sentences():
    # rouge 1.0.1 gives these; sentence-level ROUGE-L is 0.5 and 0.667
    assert wsdm.word_a_f(["a b c. d e f.", "d e f. a b c."])[0, 1] == pytest.approx(1.0, abs=1e-7)
    assert wsdm.word_a_f(["the the the cat", "the cat"])[0, 1] == pytest.approx(1.0, abs=1e-7)


def test_the_winner_takes_the_lowest_index_of_equals():
    assert wsdm.winner(np.array([[1, 0.5, 0.2], [0.5, 1, 0.2], [0.2, 0.2, 1]])) == 0


def test_the_winners_cosines_are_not_clipped():
    scores = wsdm.emb_a_s(["a", "b"], lambda _: np.array([[1.0, 0.0], [-1.0, 0.0]]))
    assert scores.tolist() == [[1, -1], [-1, 1]]


def test_where_the_winners_package_ran_out_of_stack_the_pair_gets_its_penalty():
    # rouge 1.0.1 in CPython with the usual limit: 980 words in one sentence are scored, 1,000 raise RecursionError
    fits, too_long = (" ".join(f"w{at}" for at in range(words)) for words in (980, 1000))
    assert wsdm.word_a_f([fits, fits])[0, 1] == pytest.approx(1.0, abs=1e-7)
    assert wsdm.word_a_f([too_long, too_long])[0, 1] == wsdm.FAILED
