"""The similarities of the WSDM Cup 2024 winner, to the digit (arXiv 2402.18385; their merge/calculate_score.py).

They differ from `scoring.similarity`: words are summary-level ROUGE-L over sets, as the package `rouge` 1.0.1 computes
it (sentences cut at every ".", so also in 3.14; case and punctuation kept); characters are the lower-cased text with
its spaces; a pair that cannot be scored gets -2; the diagonal is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from rapidfuzz.distance import LCSseq

from scoring.methods import Embed
from scoring.similarity import LONGEST, Matrix

FAILED = -2.0
DEEPEST = 985
"""That package walks back by recursion and fails where the way is longer than the rest of Python's 1,000 frames."""


def word_a_f(texts: Sequence[str]) -> Matrix:
    """Summary-level ROUGE-L F1 with union LCS over sets of words. O(words²) a pair, in Python."""
    summaries = [_sentences(text[-LONGEST:]) for text in texts]
    return _pairs(len(texts), lambda i, j: _summary_rouge_l(summaries[i], summaries[j]))


def steps(texts: Sequence[str]) -> int:
    """How many steps `word_a_f` takes at most, of about 0.2 µs: what to bound before strangers' texts are voted on.

    A pair of sentences costs as much as three more words in each would.
    """
    sizes = [sum(3 + len(words) for words in _sentences(text[-LONGEST:])) for text in texts]
    return (sum(sizes) ** 2 - sum(size * size for size in sizes)) // 2


def char_a_f(texts: Sequence[str]) -> Matrix:
    """F1 of the longest common subsequence of the lower-cased texts."""
    lowered = [text[-LONGEST:].lower() for text in texts]
    return _pairs(
        len(texts), lambda i, j: _char_f(LCSseq.similarity(lowered[i], lowered[j]), len(lowered[i]), len(lowered[j]))
    )


def emb_a_s(texts: Sequence[str], embed: Embed) -> Matrix:
    """The cosine of the embeddings, not clipped."""
    vectors = np.asarray(embed(list(texts)))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.where(lengths == 0, 1, lengths)
    cosines = directions @ directions.T
    return _pairs(len(texts), lambda i, j: float(cosines[i, j]))


def winner(scores: Matrix) -> int:
    """The index whose column sums highest; the lowest of equals."""
    return int(np.argmax(scores.sum(axis=0)))


def _pairs(n: int, score: Callable[[int, int], float]) -> Matrix:
    scores = np.ones((n, n))
    for i, j in combinations(range(n), 2):
        try:
            scores[i, j] = scores[j, i] = score(i, j)
        except (ValueError, ZeroDivisionError):
            scores[i, j] = scores[j, i] = FAILED
    return scores


def _char_f(common: int, len_a: int, len_b: int) -> float:
    precision, recall = common / len_a, common / len_b
    return 2 * precision * recall / (precision + recall)


def _sentences(text: str) -> list[list[str]]:
    """Sentences as lists of words. One of nothing but spaces is the sentence of one empty word, as there."""
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _summary_rouge_l(hypothesis: list[list[str]], reference: list[list[str]]) -> float:
    if not hypothesis or not reference:
        raise ValueError("a text without a sentence")
    union = {word for of in reference for said in hypothesis for word in _common(of, said)}
    precision = len(union) / len({word for sentence in hypothesis for word in sentence})
    recall = len(union) / len({word for sentence in reference for word in sentence})
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def _common(x: list[str], y: list[str]) -> set[str]:
    """The words of the one LCS that is found walking back from the end, to the left (in y) where lengths are equal.

    Raises:
        ValueError: the way back is longer than the package `rouge` could go.
    """
    if min(len(x), len(y)) > DEEPEST:
        raise ValueError("sentences too long")
    table = [[0] * (len(y) + 1)]
    for word in x:
        above, row = table[-1], [0]
        for j, other in enumerate(y):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    i, j, steps, found = len(x), len(y), 0, set()
    while i and j:
        steps += 1
        if x[i - 1] == y[j - 1]:
            found.add(x[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    if steps > DEEPEST:
        raise ValueError("sentences too long")
    return found
