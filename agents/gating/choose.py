"""From expected rewards to who is asked: the k best, or as many as the question needs, within capacity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.gating.examples import Floats


def top_k(expected: Floats, count: int) -> list[int]:
    """The places of the `count` best of [M], best first; the earlier of equals."""
    return [int(place) for place in np.argsort(-expected, kind="stable")[:count]]


def top_p(expected: Floats, wanted: float, most: int) -> list[int]:
    """The fewest agents that make it `wanted` likely that one of them is right, were they independent; `most` at most.

    More agents for harder questions, as dynamic routing gives more experts to harder tokens (arXiv 2403.07652).
    """
    chosen: list[int] = []
    missing = 1.0
    for place in top_k(expected, most):
        chosen.append(place)
        missing *= 1 - float(expected[place])
        if 1 - missing >= wanted:
            break
    return chosen


@dataclass
class Balance:
    """Keeps each agent's share of the questions near a target, by a bias on selection alone (DeepSeek-V3, 2412.19437).

    `shares`[M] sum to 1. The bias moves by `rate` a question towards whoever is asked too little; expected rewards that
    are reported stay untouched. Not thread-safe: one event loop owns it.
    """

    shares: Sequence[float]
    rate: float = 0.01
    bias: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.bias = np.zeros(len(self.shares))

    def pick(self, expected: Floats, count: int) -> list[int]:
        """The `count` best after the bias; the bias then learns from the choice."""
        chosen = top_k(expected + self.bias, count)
        load = np.zeros(len(self.bias))
        load[chosen] = 1 / len(chosen)
        self.bias += self.rate * (np.asarray(self.shares) - load)
        return chosen
