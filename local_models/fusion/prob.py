"""`prob`: the weighted arithmetic mean, also known as a mixture or a linear opinion pool.

    log P = logsumexp_i(log p_i + log w_i)

It keeps whatever any member likes. Stone, "The opinion pool", Annals of Mathematical Statistics 1961. O(N V) a token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def prob(logprobs: Tensor, weights: Tensor) -> Tensor:
    """Log probabilities N B V (fp32) and weights N B (each row sums to 1) to fused log probabilities B V."""
    weighed = weights[..., None]  # N B 1
    return torch.where(weighed > 0, logprobs + weighed.log(), -torch.inf).logsumexp(0)
