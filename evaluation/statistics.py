"""What a figure measured on so many questions can show: intervals, paired tests, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from eot.types import Frozen

RESAMPLES = 10_000
_CELLS = 4_000_000  # of one block of resampled counts: 32 MB


class Interval(Frozen):
    """A mean and the bounds that hold it with the given confidence (95 % unless another was asked)."""

    mean: float
    low: float
    high: float


class McNemar(Frozen):
    """How often only the one and only the other was right, and the chance of a split as uneven if both were equal."""

    only_ours: int
    only_theirs: int
    p_value: float


class Bin(Frozen):
    """The answers whose confidence lies in low..high: how many, their mean confidence and the share that is right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class Calibration(Frozen):
    """Expected calibration error, in 0..1, and the reliability curve: the bins that are not empty."""

    ece: float
    bins: tuple[Bin, ...]


def accuracy(right: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of one score a question and its percentile bootstrap interval (Efron, 1979).

    Args:
        right: a score for each question, in 0..1: right or wrong, or the chance to be right. Not empty.
        level: how often such an interval holds the true mean.
        resamples: bootstrap samples, drawn with replacement, each as large as `right`.
        seed: of those draws; the same seed gives the same interval.

    Raises:
        ValueError: there is no score.
    """
    scores = np.asarray(right, dtype=np.float64)
    if scores.size == 0:
        raise ValueError("an interval needs at least one question")
    means = _bootstrap_means(scores, resamples, seed)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean=float(scores.mean()), low=float(low), high=float(high))


def difference(
    ours: Sequence[float], theirs: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean of ours - theirs on the same questions, and its percentile bootstrap interval: questions are resampled.

    Raises:
        ValueError: there is no score, or not as many on both sides.
    """
    paired = [a - b for a, b in zip(map(float, ours), map(float, theirs), strict=True)]
    return accuracy(paired, level=level, resamples=resamples, seed=seed)


def _bootstrap_means(scores: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """[n] scores -> [resamples] means.

    Only how often each distinct score is drawn matters, and those counts are multinomial: the same distribution as
    drawing n questions one by one, without n draws a sample. Few scores are distinct (right and wrong: two).
    """
    values, counts = np.unique(scores, return_counts=True)
    draws = np.random.default_rng(seed)
    block = max(1, _CELLS // len(values))
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    n = len(scores)
    return np.concatenate([draws.multinomial(n, counts / n, size=size) @ values / n for size in sizes])


def mcnemar(ours: Sequence[bool], theirs: Sequence[bool]) -> McNemar:
    """The exact two-sided McNemar test: a fair coin for each question on which just one of both was right.

    Raises:
        ValueError: not as many answers on both sides.
    """
    pairs = list(zip(ours, theirs, strict=True))
    gained = sum(bool(a) and not b for a, b in pairs)
    lost = sum(bool(b) and not a for a, b in pairs)
    return McNemar(only_ours=gained, only_theirs=lost, p_value=_two_sided(min(gained, lost), gained + lost))


def _two_sided(fewer: int, n: int) -> float:
    """2 P(X <= fewer), X ~ Binomial(n, 1/2), at most 1. In whole numbers, so that nothing underflows on the way."""
    term = tail = 1
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        tail += term
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def calibration(confidence: Sequence[float], right: Sequence[float], bins: int = 10) -> Calibration:
    """How far confidence is from accuracy: sum over bins of share x |accuracy - confidence| (Guo et al., 2017).

    Args:
        confidence: in 0..1, one an answer. Bins are equally wide; a bin holds its upper bound, the first also 0.
        right: the score of each answer, in 0..1.
        bins: how many.

    Raises:
        ValueError: there is no answer, not as many on both sides, or a confidence outside 0..1.
    """
    sure, scores = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.size == 0 or sure.shape != scores.shape:
        raise ValueError(f"{sure.size} confidences and {scores.size} scores; as many are needed, and one at least")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("a confidence lies outside 0..1")
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    found = [
        Bin(
            low=float(edges[at]),
            high=float(edges[at + 1]),
            count=int(held.sum()),
            confidence=float(sure[held].mean()),
            accuracy=float(scores[held].mean()),
        )
        for at in range(bins)
        if (held := places == at).any()
    ]
    ece = sum(bin_.count * abs(bin_.accuracy - bin_.confidence) for bin_ in found) / sure.size
    return Calibration(ece=float(ece), bins=tuple(found))
