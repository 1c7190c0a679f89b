"""The k best of a softmax: Mixtral's router, and Qwen2-MoE's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from local_models.moe import losses
from local_models.moe.routers.route import Gate, Route, checked


@dataclass(frozen=True)
class Mixtral:
    """p = softmax(x W_g); the k best, `normalised` to sum 1: equal to a softmax over the k best logits.

    Loss: `balance` K E sum_i f_i P_i, K where even, as transformers computes it for one layer. Normalised with k = 1
    the weight is always 1, and the model's loss teaches the router nothing: train it with k >= 2, or not normalised.
    Jiang et al., "Mixtral of Experts", 2024 (arXiv 2401.04088); Qwen2-MoE (arXiv 2407.10671) does not normalise.
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = False
    k: int = 2
    normalised: bool = True
    balance: float = 0.001

    def most(self, experts: int) -> int:
        return checked(self.k, experts)

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        logits = gate.logits(x)
        scores = logits.softmax(-1)
        weights, experts = scores.topk(self.k, dim=-1)  # T K
        if self.normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        terms = {"balance": self.balance * self.k * losses.balance(scores, experts)} if self.balance else {}
        return Route(logits, scores, experts, weights, terms)
