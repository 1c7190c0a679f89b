"""Comparing 16 answers of 300 words by word and character, beside google's rouge-score on the same pairs.

rouge-score is given our tokens, since its own tokenizer drops every letter that is not ASCII. Both compute the same
pairs in this process, in turns; the medians are compared.
"""

from __future__ import annotations

import random
from itertools import combinations
from math import comb

import numpy as np
from report import arguments, in_turns, report
from rouge_score.rouge_scorer import RougeScorer

from scoring import Ballot, vote
from scoring.similarity import Matrix, char_a_f, tokens, word_a_f

ANSWERS, WORDS, CHARACTER_ANSWERS = 16, 300, 3
_SYLLABLES = ("ka", "lo", "mi", "ren", "tos", "ver", "un", "pel", "sha", "dor", "in", "ma", "te", "lis")


class _Tokenizer:
    """What rouge-score asks of a tokenizer."""

    def __init__(self, *, characters: bool) -> None:
        self._characters = characters

    def tokenize(self, text: str) -> list[str]:
        return list(" ".join(text.lower().split())) if self._characters else tokens(text)


def answers(seed: int = 0) -> list[str]:
    """Texts that share about half of their words in order, as several models' answers to one question do."""
    drawn = random.Random(seed)
    vocabulary = ["".join(drawn.choices(_SYLLABLES, k=drawn.randint(1, 4))) for _ in range(600)]
    common = drawn.choices(vocabulary, k=WORDS)
    return [
        " ".join(word if drawn.random() < 0.5 else drawn.choice(vocabulary) for word in common) for _ in range(ANSWERS)
    ]


def by_rouge_score(texts: list[str], *, characters: bool) -> Matrix:
    scorer = RougeScorer(["rougeL"], tokenizer=_Tokenizer(characters=characters))
    scores = np.ones((len(texts), len(texts)))
    for i, j in combinations(range(len(texts)), 2):
        scores[i, j] = scores[j, i] = scorer.score(texts[i], texts[j])["rougeL"].fmeasure
    return scores


def main() -> None:
    parser = arguments("Votes by word and character similarity, beside google's rouge-score.")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    texts = answers()
    few = texts[:CHARACTER_ANSWERS]
    ballots = [Ballot(f"agent{at}", text, text) for at, text in enumerate(texts)]
    word_a_f(few)
    seconds = in_turns(
        {
            "word": lambda: word_a_f(texts),
            "rouge word": lambda: by_rouge_score(texts, characters=False),
            "char": lambda: char_a_f(few),
            "rouge char": lambda: by_rouge_score(few, characters=True),
            "vote": lambda: vote(ballots, method="sum", kind="open"),
        },
        asked.repeats,
    )
    by_word, by_char = seconds["rouge word"] / seconds["word"], seconds["rouge char"] / seconds["char"]
    differences = (
        word_a_f(texts) - by_rouge_score(texts, characters=False),
        char_a_f(few) - by_rouge_score(few, characters=True),
    )
    report(
        f"{ANSWERS} answers x {WORDS} words",
        {
            "speedup_over_rouge_score": min(by_word, by_char),
            "speedup_word": by_word,
            "speedup_char": by_char,
            "max_abs_difference": max(float(np.abs(difference).max()) for difference in differences),
            "vote_ms": 1000 * seconds["vote"],
        },
        [
            f"words: all {comb(ANSWERS, 2)} pairs; characters: the {comb(CHARACTER_ANSWERS, 2)} pairs of the first",
            f"{CHARACTER_ANSWERS} answers (rouge-score takes seconds a pair); the lesser speedup is the figure;",
            f"vote_ms is the whole vote by word+char; medians of {asked.repeats}, in turns",
        ],
        as_json=asked.json,
    )


if __name__ == "__main__":
    main()
