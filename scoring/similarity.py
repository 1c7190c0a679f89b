"""How alike texts are: ROUGE-L F1 over words and over characters, and the cosine of embeddings.

ROUGE-L F1 = 2 LCS(a, b) / (|a| + |b|) (Lin, 2004) is rapidfuzz's normalised Indel similarity, bit-parallel in C++.
Every function takes n texts and returns a symmetric float64[n, n] in 0..1.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist

from scoring.methods import Embed

Matrix = NDArray[np.float64]
LONGEST = 20_000
"""Characters of a text, from its end, that are compared: the cost grows with the square of the length."""

_WORD = re.compile(r"[^\W_]+")
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def tokens(text: str) -> list[str]:
    """Words after NFKC and casefold: runs of letters and digits; jieba's words where there are Chinese characters."""
    text = unicodedata.normalize("NFKC", text[-LONGEST:]).casefold()
    if not _HAN.search(text):
        return _WORD.findall(text)
    return [word for word in _jieba().lcut(text) if _WORD.search(word)]


@cache
def _jieba() -> Any:
    import jieba  # noqa: PLC0415  # its dictionary takes a second

    jieba.setLogLevel(logging.WARNING)
    return jieba


def word_a_f(texts: Sequence[str]) -> Matrix:
    """ROUGE-L F1 over words, each text against each other."""
    return _rouge_l([tokens(text) for text in texts])


def char_a_f(texts: Sequence[str]) -> Matrix:
    """ROUGE-L F1 over the characters of the lower-cased texts, white space collapsed."""
    return _rouge_l([" ".join(text[-LONGEST:].lower().split()) for text in texts])


def emb_a_s(texts: Sequence[str], embed: Embed) -> Matrix:
    """The cosine of the texts' embeddings, clipped at 0.

    Raises:
        ValueError: `embed` did not return one finite vector a text.
    """
    distinct = list(dict.fromkeys(texts))
    vectors = np.asarray(embed(distinct), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(distinct) or not np.isfinite(vectors).all():
        raise ValueError(
            f"embed returned shape {vectors.shape} for {len(distinct)} texts; one finite vector each is needed"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return _spread(np.clip(directions @ directions.T, 0.0, 1.0), [distinct.index(text) for text in texts])


def _rouge_l(sequences: Sequence[Sequence[Hashable]]) -> Matrix:
    """[n] sequences -> [n, n]. Equal sequences are compared once; an empty one is like nothing, not even itself."""
    keys = [tuple(sequence) if isinstance(sequence, list) else sequence for sequence in sequences]
    distinct = list(dict.fromkeys(keys))
    known = {key: at for at, key in enumerate(distinct)}
    scores = np.asarray(cdist(distinct, distinct, scorer=Indel.normalized_similarity, dtype=np.float64))
    if (empty := known.get(()) if () in known else known.get("")) is not None:
        scores[empty, :] = scores[:, empty] = 0.0
    return _spread(scores, [known[key] for key in keys])


def _spread(scores: Matrix, rows: list[int]) -> Matrix:
    return scores[np.ix_(rows, rows)] if rows else np.zeros((0, 0))
