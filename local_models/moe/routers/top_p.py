"""Dynamic top-p: as many experts as it takes to be sure, more for harder tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.moe import losses
from local_models.moe.routers.route import Gate, Route, checked


@dataclass(frozen=True)
class DynamicTopP:
    """P = softmax(x W_g), sorted; experts are asked until their sum reaches `p`, the one that crosses it included.

    The weights are P itself; `most_k` caps them (None: E). Losses: `entropy` -sum P ln P, or the router would flatten P
    to ask everyone, and `balance`. Huang et al., "Harder Tasks Need More Experts", 2024 (arXiv 2403.07652).
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = True
    p: float = 0.4
    most_k: int | None = None
    entropy: float = 0.0001
    balance: float = 0.01

    def most(self, experts: int) -> int:
        if not 0 < self.p <= 1:
            raise InputError(f"p = {self.p}: the experts' probabilities sum to 1, so p must be above 0 and at most 1")
        return checked(experts if self.most_k is None else self.most_k, experts)

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        logits = gate.logits(x)
        scores = logits.softmax(-1)
        count = scores.shape[-1]
        weights, experts = torch.sort(scores, dim=-1, descending=True, stable=True)
        before = weights.cumsum(-1) - weights  # what those ahead of it have already
        asked = before < self.p
        asked[:, 0] = True
        asked[:, self.most(count) :] = False
        kept = max(1, int(asked.sum(-1).max())) if len(x) else 1
        experts, weights = experts.where(asked, count)[:, :kept], weights.where(asked, 0.0)[:, :kept]  # T K
        terms = {
            "entropy": self.entropy * losses.entropy(scores),
            "balance": self.balance * losses.balance(scores, experts),
        }
        return Route(logits, scores, experts, weights, terms)
