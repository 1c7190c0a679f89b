"""GShard's top-2: the second expert is asked at random, the likelier the more it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from local_models.moe import losses
from local_models.moe.routers.route import Gate, Route, checked


@dataclass(frozen=True)
class GShard:
    """g = softmax(x W_g); the two best, g1/(g1+g2) and g2/(g1+g2); the second is asked if 2 g2/(g1+g2) > U(0, 1).

    Loss: `balance` E sum_e (c_e/T) m_e, c_e the tokens whose first choice is e, m_e the mean gate: the form of the
    authors' code, E^2 times the paper's. The draw is made in training only. The layer's capacity does the rest: an
    expert over it turns a token away, and the residual carries that. A second choice that was not drawn takes no place.
    Lepikh et al., "GShard", 2020 (arXiv 2006.16668), algorithm 1.
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = False
    balance: float = 0.01

    def most(self, experts: int) -> int:
        return checked(2, experts)

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        logits = gate.logits(x)
        scores = logits.softmax(-1)
        best, experts = scores.topk(2, dim=-1)  # T 2
        weights = best / best.sum(-1, keepdim=True)
        loss = self.balance * losses.balance(scores, experts[:, :1])
        if training:
            asked = 2 * weights[:, 1].detach() > torch.rand_like(weights[:, 1])
            experts = torch.stack([experts[:, 0], experts[:, 1].where(asked, logits.shape[-1])], dim=-1)
        return Route(logits, scores, experts, weights, {"balance": loss})
