"""The routers' auxiliary losses, without their coefficients.

Axes: T tokens, E experts, K choices a token. Every function returns a scalar. `experts` T K holds the chosen ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cv_squared(values: Tensor) -> Tensor:
    """CV(v)^2 = Var(v) / (Mean(v)^2 + 1e-10) with the population's variance; E to a scalar (Shazeer et al. 2017)."""
    return values.var(unbiased=False) / (values.mean() ** 2 + 1e-10)


def importance(gates: Tensor) -> Tensor:
    """CV(sum_t G(x_t))^2 of the sparse gate values G, T E (Shazeer et al. 2017, equation 7)."""
    return cv_squared(gates.sum(0))


def smooth_load(clean: Tensor, noisy: Tensor, spread: Tensor, k: int) -> Tensor:
    """CV(sum_t P(x_t, i))^2, each of the three T E (Shazeer et al. 2017, equations 8 to 11).

    P(x, i) = Phi((clean_i - kth_excluding(noisy, k, i)) / spread_i): how likely i would be among the k best, were its
    noise alone drawn anew. Wants k < E.
    """
    best = noisy.topk(k + 1, dim=-1).values  # T k+1
    inside = noisy >= best[:, k - 1 : k]
    threshold = torch.where(inside, best[:, k : k + 1], best[:, k - 1 : k])
    chance = 0.5 * (1 + torch.erf((clean - threshold) / (spread * math.sqrt(2))))
    return cv_squared(chance.sum(0))


def balance(scores: Tensor, experts: Tensor) -> Tensor:
    """E sum_i f_i P_i: f_i the share of the T K choices that fell on i, P_i the mean of `scores` T E.

    1 where both are even. With K = 1 Switch's (equation 4) and, on first choices, that of GShard's code; DeepSeekMoE's
    expert-level one (equations 12 to 14). Transformers' for Mixtral is K times this.
    """
    count = scores.shape[-1]
    return count * (shares(experts, count).to(scores.dtype) * _mean(scores)).sum()


def sequence_balance(scores: Tensor, experts: Tensor, sequences: int) -> Tensor:
    """DeepSeek-V3's: `balance` within each sequence on scores made to sum to 1, then the mean; 0 for no sequences.

    Counted are the choices that were made, the router's bias included; not compared with the authors' code.
    """
    if not sequences:
        return scores.sum()
    unit = scores / scores.sum(-1, keepdim=True)
    rows = zip(unit.chunk(sequences), experts.chunk(sequences), strict=True)
    return torch.stack([balance(row, chosen) for row, chosen in rows]).mean()


def device_balance(scores: Tensor, experts: Tensor, devices: int) -> Tensor:
    """DeepSeekMoE's device-level one: sum_d f'_d P'_d over equal groups of experts; 1 where even (15 to 17)."""
    count = scores.shape[-1]
    asked = count * shares(experts, count).to(scores.dtype)  # f_i: 1 where even
    met: Tensor = asked.view(devices, -1).mean(1) @ _mean(scores).view(devices, -1).sum(1)
    return met


def shares(experts: Tensor, count: int) -> Tensor:
    """Which share of the choices fell on each of E experts; no gradient passes."""
    load = torch.bincount(experts.flatten(), minlength=count + 1)[:count]
    return load / load.sum().clamp_min(1)


def z_loss(logits: Tensor) -> Tensor:
    """Mean over T of logsumexp(logits)^2 (ST-MoE, equation 5)."""
    return _mean(logits.logsumexp(-1).square())


def entropy(scores: Tensor) -> Tensor:
    """Mean over T of -sum_i p_i ln p_i of probabilities T E, in nats (Huang et al. 2024)."""
    return _mean(torch.special.entr(scores).sum(-1))


def _mean(values: Tensor) -> Tensor:
    """Over T; 0 for no tokens, as a process among several may have none."""
    return values.sum(0) / max(1, len(values))
