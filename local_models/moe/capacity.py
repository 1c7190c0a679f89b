"""How many tokens an expert may serve, and what becomes of the others: nothing here, the residual carries them."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.moe.routers.route import Route, exact, places


@dataclass(frozen=True)
class Capacity:
    """C = ceil(K T f / E) places an expert, `least` at least (GShard, Switch).

    `train` is the factor f as a schedule: (step, f) pairs by rising step, straight lines between them, flat outside;
    one pair is a constant. `evaluation` is f outside of training. Factor 0 is no place at all. K T are the
    choices: where a router asks more experts for some tokens than for others, those that it made.
    """

    train: tuple[tuple[int, float], ...] = ((0, 1.25),)
    evaluation: float = 2.0
    least: int = 0

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.train]
        factors = [*(factor for _, factor in self.train), self.evaluation]
        if not steps or steps != sorted(set(steps)) or not all(0 <= factor < math.inf for factor in factors):
            raise InputError("a capacity schedule is (step, factor) pairs by rising step, each factor 0 or more")
        if self.least < 0:
            raise InputError(f"least = {self.least}: an expert has 0 places or more")

    def factor(self, step: int) -> Fraction:
        """The training factor at this step."""
        at = bisect_right([start for start, _ in self.train], step)
        if at in (0, len(self.train)):
            return exact(self.train[max(0, at - 1)][1])
        (start, low), (end, high) = self.train[at - 1 : at + 1]
        return exact(low) + (exact(high) - exact(low)) * (step - start) / (end - start)

    def places(self, choices: int, experts: int, *, training: bool, step: int = 0) -> int:
        """C for K T choices of E experts."""
        factor = self.factor(step) if training else self.evaluation
        return max(self.least, places(choices, factor, experts))


def limited(route: Route, places: int) -> Route:
    """The route without what an expert has no place for: first choices come before second ones, each in token order."""
    experts, count = route.experts, route.scores.shape[-1]
    rank = queue(experts.T.flatten(), count).view(experts.shape[::-1]).T  # T K
    over = (rank >= places) & (experts < count)
    return replace(route, experts=experts.masked_fill(over, count), overflow=route.overflow + int(over.sum()))


def queue(experts: Tensor, count: int) -> Tensor:
    """The place of each choice in its expert's queue, from 0: S to S. O(S log S), where a one-hot cumsum takes S E."""
    order = experts.argsort(stable=True)
    ends = torch.bincount(experts, minlength=count + 1).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])[experts[order]]
    places = torch.arange(len(experts), device=experts.device) - starts
    return torch.empty_like(places).scatter_(0, order, places)
