"""Which texts are most like the others: q_i = sum over j != i of w_j s_ij, for each similarity that is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scoring import similarity, wsdm
from scoring.methods import SIGNALS, Embed
from scoring.similarity import Matrix

_BY_TEXT: Mapping[bool, Mapping[str, Callable[[Sequence[str]], Matrix]]] = {
    False: {"word_a_f": similarity.word_a_f, "char_a_f": similarity.char_a_f},
    True: {"word_a_f": wsdm.word_a_f, "char_a_f": wsdm.char_a_f},
}


@dataclass(frozen=True)
class Comparison:
    """The matrices by signal, [n, n] each, and how much each text is like the others, [n], in 0..1."""

    matrices: Mapping[str, Matrix]
    standing: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The signals in short: "word+char", "emb+word+char", "char"."""
        return "+".join(signal.partition("_")[0] for signal in self.matrices)

    @property
    def scores(self) -> dict[str, tuple[tuple[float, ...], ...]]:
        return {signal: tuple(tuple(row) for row in matrix.tolist()) for signal, matrix in self.matrices.items()}


def compare(
    texts: Sequence[str], weights: Sequence[float], method: str, embed: Embed | None, *, exact: bool
) -> Comparison:
    """Compare each text with each other, by the method's own similarity or else by all that can be had.

    `exact` computes them as the WSDM Cup winner did. Slow with `embed`.
    """
    module = wsdm if exact else similarity
    matrices: dict[str, Matrix] = {}
    for signal in [method] if method in SIGNALS else SIGNALS:
        if signal != "emb_a_s":
            matrices[signal] = _BY_TEXT[exact][signal](texts)
        elif embed is not None:
            matrices[signal] = module.emb_a_s(texts, embed)
    notes = []
    if any(len(text) > similarity.LONGEST for text in texts):
        notes.append(f"only the last {similarity.LONGEST:,} characters of a text were compared")
    return Comparison(matrices, _standing(list(matrices.values()), weights), tuple(notes))


def _standing(matrices: Sequence[Matrix], weights: Sequence[float]) -> tuple[float, ...]:
    """The sums are exact (fsum), so that neither the order of the texts nor the scale of the weights decides."""
    total = math.fsum(weights) * len(matrices)
    n = len(weights)
    return tuple(
        math.fsum(weights[j] * float(matrix[i, j]) for matrix in matrices for j in range(n) if j != i) / total
        for i in range(n)
    )
