"""From expected rewards to who is asked: the k best, or as many as the question needs, within capacity."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agents.gating.examples import Floats


def top_k(expected: Floats, count: int) -> list[int]:
    """The places of the `count` best of [M], best first; the earlier of equals."""
    return [int(place) for place in np.argsort(-expected, kind="stable")[:count]]


def top_p(expected: Floats, wanted: float, most: int, liked: Floats | None = None) -> list[int]:
    """The fewest agents that make it `wanted` likely that one of them is right, were they independent; `most` at most.

    More agents for harder questions, as dynamic routing gives more experts to harder tokens (arXiv 2403.07652). They
    are taken in the order of `liked`, or of what is expected of them.
    """
    chosen: list[int] = []
    missing = 1.0
    for place in top_k(expected if liked is None else liked, most):
        chosen.append(place)
        missing *= 1 - float(expected[place])
        if 1 - missing >= wanted:
            break
    return chosen


WINDOW = 100
"""Choices over which an agent's capacity is counted."""
RATE = 0.01
"""How far a bias moves for a share that is wholly missed."""
_ROUNDING = 1e-9
"""1.1 x 0.1 x 100 is a little more than 11 to a computer."""
_LAST = 1e6
"""More than any reward and bias: who is full comes after all others."""


@dataclass
class Balance:
    """Keeps each agent's share of the questions near a target, by a bias on selection alone.

    `shares`[M] sum to 1. After each question the bias moves by `rate` x (share - load), the load of 1 being
    divided among those asked; expected rewards that are reported stay untouched. DeepSeek-V3 (2412.19437) has such a
    bias and moves it a fixed step by the sign of what a whole batch shows; one question's sign says nothing of shares.

    With a `capacity` factor c, an agent that had c times its share of the last `WINDOW` choices is full, and the next
    best is asked in its place (GShard, 2006.16668); where all are full, the best is. Not thread-safe: one event loop
    owns it.
    """

    shares: Sequence[float]
    rate: float = RATE
    capacity: float | None = None
    bias: Floats = field(init=False)
    recent: deque[int] = field(init=False)

    def __post_init__(self) -> None:
        self.bias = np.zeros(len(self.shares))
        self.recent = deque(maxlen=WINDOW)

    def liked(self, expected: Floats) -> Floats:
        """By what to choose: expected rewards[M] and the bias; whoever is full comes after all others."""
        return expected + self.bias - np.where(self.full, _LAST, 0.0)

    @property
    def full(self) -> NDArray[np.bool_]:
        """Who was chosen as often of late as may be: ceil(c x share x WINDOW) times. bool[M]."""
        if self.capacity is None:
            return np.zeros(len(self.shares), dtype=bool)
        most = np.ceil(self.capacity * np.asarray(self.shares) * WINDOW - _ROUNDING)
        return np.asarray(np.bincount(list(self.recent), minlength=len(self.shares)) >= most)

    def note(self, chosen: Sequence[int]) -> None:
        """Learn from a choice."""
        load = np.zeros(len(self.bias))
        load[list(chosen)] = 1 / len(chosen)
        self.bias += self.rate * (np.asarray(self.shares) - load)
        self.recent.extend(chosen)

    def pick(self, expected: Floats, count: int) -> list[int]:
        """The `count` best after bias and capacity, which then learn from the choice."""
        chosen = top_k(self.liked(expected), count)
        self.note(chosen)
        return chosen
