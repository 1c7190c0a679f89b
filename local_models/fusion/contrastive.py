"""`contrastive`: what the expert (the first member) knows and the amateur (the second) does not.

    s(v) = (1 + beta) log p_expert(v) - beta log p_amateur(v)    where p_expert(v) >= alpha max p_expert, else -inf
    P = softmax(s)

Li et al., "Contrastive Decoding", ACL 2023 (arXiv 2210.15097); with the (1 + beta) weighting O'Brien and Lewis,
"Contrastive Decoding Improves Reasoning", 2023 (arXiv 2309.09117). O(V) a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEAST = -100.0
"""Below the log of fp32's smallest number: what an amateur rules out entirely must not become infinitely good."""


def contrastive(logprobs: Tensor, weights: Tensor, alpha: float, beta: float) -> Tensor:
    """Log probabilities 2 B V (fp32, natural), weights 2 B (0 for a member that is lost): fused log probabilities B V.

    Without the amateur the expert decides alone, and the other way round.
    """
    expert, amateur = logprobs  # B V
    has_expert, has_amateur = (weights > 0)[..., None]  # B 1
    plausible = expert >= expert.amax(-1, keepdim=True) + math.log(alpha)
    score = (1 + beta) * expert - beta * amateur.clamp(min=_LEAST)
    both = torch.where(plausible, score, -torch.inf)
    return torch.where(has_expert & has_amateur, both, torch.where(has_expert, expert, amateur)).log_softmax(-1)
