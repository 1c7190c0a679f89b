"""`logit`: the weighted geometric mean, also known as the product of experts or a logarithmic opinion pool.

    P = softmax(sum_i w_i z_i) = softmax(sum_i w_i log p_i)

with z_i a member's logits: the members' normalisers cancel. It vetoes what any member rules out, and a member with
larger logits pulls harder. Genest and Zidek, "Combining probability distributions", Statistical Science 1986;
Hinton, "Training products of experts", Neural Computation 2002. O(N V) a token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def logit(logprobs: Tensor, weights: Tensor) -> Tensor:
    """Log probabilities N B V (fp32) and weights N B (each row sums to 1) to fused log probabilities B V."""
    weighed = weights[..., None]  # N B 1
    # A member without weight may be anything, -inf or NaN included: 0 times it must stay 0.
    return torch.where(weighed > 0, weighed * logprobs, 0.0).sum(0).log_softmax(-1)
