"""Expert choice: the experts pick their tokens. Not causal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.moe.routers.route import Gate, Route, places


@dataclass(frozen=True)
class ExpertChoice:
    """S = softmax(x W_g) over the experts; each expert takes its C = T `factor` / E best tokens, weighed by S.

    The load is even without any loss; a token may have many experts or none. An expert's choice depends on all tokens,
    later ones too: good for encoders and scoring, wrong for decoding (`causal` is false).
    Zhou et al., "Mixture-of-Experts with Expert Choice Routing", 2022 (arXiv 2202.09368).
    """

    causal: ClassVar[bool] = False
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = True
    factor: float = 2.0

    def most(self, experts: int) -> int:
        if not 0 < self.factor < math.inf:
            raise InputError(f"factor = {self.factor}: how many experts a token has on average, above 0")
        return experts

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        logits = gate.logits(x)
        scores = logits.softmax(-1)
        tokens, count = scores.shape
        each = min(tokens, places(tokens, self.factor, count))
        takes = scores.topk(each, dim=0).indices  # C E
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(0, takes, value=True)
        most = int(chosen.sum(-1).max()) if tokens else 0
        weights, experts = scores.masked_fill(~chosen, -torch.inf).topk(most, dim=-1)  # T K
        asked = weights.isfinite()
        return Route(logits, scores, experts.where(asked, count), weights.where(asked, 0.0))
