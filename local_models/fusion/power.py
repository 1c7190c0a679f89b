"""`power`: the weighted power mean, of which `prob` (r = 1) and `logit` (r -> 0) are the ends.

    P ~ (sum_i w_i p_i^r)^(1/r)

Within 0 <= r <= 1, and only there, the log likelihood is never below the members' weighted average (arXiv 2603.04204).
O(N V) a token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from local_models.fusion.logit import logit

_NEARLY_ZERO = 1e-4
"""Below this 1/r times fp32's rounding error passes 1e-3, and the limit is nearer than the formula."""


def power(logprobs: Tensor, weights: Tensor, r: float) -> Tensor:
    """Log probabilities N B V (fp32) and weights N B (each row sums to 1) to fused log probabilities B V."""
    if r < _NEARLY_ZERO:
        return logit(logprobs, weights)
    weighed = weights[..., None]  # N B 1
    raised = torch.where(weighed > 0, r * logprobs + weighed.log(), -torch.inf).logsumexp(0)
    return (raised / r).log_softmax(-1)
