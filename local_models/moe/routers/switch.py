"""Switch: one expert a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from local_models.moe import losses
from local_models.moe.routers.route import Gate, Route


@dataclass(frozen=True)
class Switch:
    """y = p_i E_i(x), i = argmax p, p = softmax((x U(1-eps, 1+eps)) W_g). p_i is not made 1: it carries the gradient.

    The jitter multiplies what the router reads, in training only; the experts read x itself. Losses: `balance`
    E sum_i f_i P_i (1 where even) and `z` mean logsumexp(logits)^2, which keeps the logits small.
    Fedus et al., "Switch Transformers", 2021 (arXiv 2101.03961); the z-loss: Zoph et al., "ST-MoE", 2022 (2202.08906).
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = False
    jitter: float = 0.01
    balance: float = 0.01
    z: float = 0.001

    def most(self, experts: int) -> int:  # noqa: ARG002
        return 1

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        if training and self.jitter:
            x = x.to(torch.promote_types(x.dtype, torch.float32))  # bf16 has no number between 1 and 1.0078
            x = x * torch.empty_like(x).uniform_(1 - self.jitter, 1 + self.jitter)
        logits = gate.logits(x)
        scores = logits.softmax(-1)
        weights, experts = scores.max(-1, keepdim=True)  # T 1
        terms = {"balance": self.balance * losses.balance(scores, experts), "z": self.z * losses.z_loss(logits)}
        return Route(logits, scores, experts, weights, terms)
