"""Noisy top-k: noise spreads the load while it trains, and two losses even it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from local_models.moe import losses
from local_models.moe.routers.route import Gate, Route, checked, finite


@dataclass(frozen=True)
class NoisyTopK:
    """H_i = (x W_g)_i + N(0, 1) softplus((x W_noise)_i);  G = softmax(KeepTopK(H, k)), the others 0.

    Loss: `importance` CV(sum_x G)^2 + `load` CV(sum_x P)^2 (`losses.smooth_load`). Noise and loss are training's.
    Shazeer et al., "Outrageously Large Neural Networks", 2017 (arXiv 1701.06538), which starts from W_g = W_noise = 0.
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = True
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = False
    k: int = 2
    importance: float = 0.1
    load: float = 0.1

    def most(self, experts: int) -> int:
        return checked(self.k, experts)

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        clean = noisy = gate.logits(x)
        terms = {}
        if training:
            spread = gate.spread(x)
            noisy = finite(clean + torch.randn_like(clean) * spread)
            if self.k < clean.shape[-1]:  # where all are asked there is no threshold to pass
                terms["load"] = self.load * losses.smooth_load(clean, noisy, spread, self.k)
        kept, experts = noisy.topk(self.k, dim=-1)  # T K
        weights = kept.softmax(-1)
        if training:
            gates = torch.zeros_like(clean).scatter(-1, experts, weights)  # T E
            terms["importance"] = self.importance * losses.importance(gates)
        return Route(clean, clean.softmax(-1), experts, weights, terms)
