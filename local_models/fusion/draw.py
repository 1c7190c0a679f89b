"""Temperature and nucleus applied once, to the fused distribution, and a token drawn from what is left."""

from __future__ import annotations

import torch
from torch import Tensor

from local_models.decode import COLDEST


def processed(logprobs: Tensor, temperature: float, top_p: float) -> Tensor:
    """Log probabilities V to the distribution V (float64) that is drawn from; temperature 0 puts all on the best.

    The nucleus is that of `local_models.decode.sample`: the likeliest tokens that reach `top_p`, at least one.
    """
    if not temperature:
        return torch.nn.functional.one_hot(logprobs.argmax(-1), len(logprobs)).double()
    probabilities = (logprobs.double() / max(temperature, COLDEST)).softmax(-1)
    if top_p >= 1:
        return probabilities
    ordered, places = probabilities.sort(descending=True)
    cut = ordered.cumsum(-1) - ordered >= top_p
    cut[0] = False
    left = probabilities.index_fill(-1, places[cut], 0.0)
    return left / left.sum()


def draw(probabilities: Tensor, uniform: float) -> int:
    """Invert the cumulative distribution (V, need not sum to 1) at `uniform` in [0, 1)."""
    cumulative = probabilities.cumsum(-1)
    place = int(torch.searchsorted(cumulative, cumulative[-1] * uniform, right=True))
    return min(place, int(probabilities.nonzero()[-1]))  # rounding may push it past the last possible one
