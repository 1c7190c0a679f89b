"""The dense softmax gate: every expert is asked, none is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from local_models.moe.routers.route import Gate, Route


@dataclass(frozen=True)
class DenseSoftmax:
    """y = sum_i softmax(x W_g)_i E_i(x).

    Jacobs, Jordan, Nowlan and Hinton, "Adaptive Mixtures of Local Experts", 1991; Jordan and Jacobs 1994. O(E) a token.
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = False

    def most(self, experts: int) -> int:
        return experts

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        logits = gate.logits(x)
        scores = logits.softmax(-1)
        weights, experts = torch.sort(scores, dim=-1, descending=True, stable=True)
        return Route(logits, scores, experts, weights)
