"""The members' distributions made one; a member that answers no numbers is dropped.

Axes: N members, B rows, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from eot.errors import CallError
from local_models.fusion.request import FusedRequest

Blend = Callable[[Tensor, Tensor], Tensor]
"""Log probabilities N B V and weights N B to fused log probabilities B V."""
_log = logging.getLogger(__name__)


class Pool:
    """Weights of each member in each row (N B), which change when a member is lost there."""

    def __init__(self, names: Sequence[str], shares: Sequence[float], blend: Blend, rows: int) -> None:
        self.names, self._blend = names, blend
        self.weights = torch.tensor(shares, dtype=torch.float32)[:, None].repeat(1, rows)

    def fused(self, logprobs: Tensor, requests: Sequence[FusedRequest]) -> Tensor:
        """Log probabilities N B V (fp32) to B V. Rows that no member can decide any more fail, and hold NaN."""
        self.weights = self.weights.to(logprobs.device)
        fused = self._blend(logprobs, self.weights)
        if not fused.isnan().any():
            return fused
        self._drop(logprobs.isnan().any(-1), requests)
        fused = self._blend(logprobs, self.weights)
        stuck = fused.isnan().any(-1) | (self.weights.sum(0) == 0)  # B
        for row in stuck.nonzero().flatten().tolist():
            requests[row].fail(
                CallError(f"{', '.join(self.names)} leave no token: nothing likely to all, or no numbers")
            )
        return fused

    def counts(self, member: int) -> bool:
        """Whether a member still has a say in the first row."""
        return bool(self.weights[member, 0] > 0)

    def keep(self, rows: list[int]) -> None:
        if len(rows) < self.weights.shape[1]:
            self.weights = self.weights[:, rows]

    def _drop(self, broken: Tensor, requests: Sequence[FusedRequest]) -> None:
        """Where a member's logits are not numbers (`broken`, N B), the others share its weight."""
        for member, row in (broken & (self.weights > 0)).nonzero().tolist():
            remark = f"{self.names[member]} was dropped: its logits were not numbers"
            requests[row].note(remark)
            _log.warning("%s", remark)
        left = torch.where(broken, 0.0, self.weights)
        self.weights = left / left.sum(0).clamp(min=torch.finfo(left.dtype).tiny)
