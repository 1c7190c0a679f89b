"""What a model loses on each domain's held-out text, and where a mixture sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from local_models.moe.descent import language_loss
from local_models.moe.routing import Routed, load_of, watched


@torch.inference_mode()
def losses(model: Any, windows: Tensor) -> list[float]:
    """Nats a token of each window [M, T]; its first token is not predicted."""
    return [float(language_loss(model, row[None].to(model.device))) for row in windows]


@dataclass(frozen=True)
class Spread:
    """Where a domain's tokens went, layer by layer: [L, E] and [L].

    `shares` is each expert's share of the assignments, `weights` that of the weight that it had in what came out: with
    two active experts nobody has more than half of the first. `entropy` is the routers', in nats a token.
    """

    shares: list[list[float]]
    weights: list[list[float]]
    entropy: list[float]


@dataclass(frozen=True)
class Judged:
    """One system: the loss of each window by domain, and for a mixture where each domain's tokens went."""

    losses: Mapping[str, list[float]]
    spread: Mapping[str, Spread]


def judge_dense(model: Any, held: Mapping[str, Tensor]) -> Judged:
    """`held` has the windows [M, T] of each domain."""
    return Judged({name: losses(model, windows) for name, windows in held.items()}, {})


@torch.inference_mode()
def judge_mixture(model: Any, held: Mapping[str, Tensor]) -> Judged:
    """As `judge_dense`, and the load of every layer.

    Raises:
        InputError: a router's logits are not finite.
    """
    lost: dict[str, list[float]] = {}
    spread: dict[str, Spread] = {}
    for name, windows in held.items():
        lost[name] = []
        decided: list[Sequence[Routed]] = []
        for row in windows:
            with watched(model) as layers:
                lost[name].append(float(language_loss(model, row[None].to(model.device))))
            decided.append(tuple(layers))
        joined = [_joined([window[at] for window in decided]) for at in range(len(decided[0]))]
        load = load_of(joined)
        spread[name] = Spread(
            shares=[list(one.shares) for one in load],
            weights=[_weights(layer) for layer in joined],
            entropy=[one.entropy for one in load],
        )
    return Judged(lost, spread)


def _weights(layer: Routed) -> list[float]:
    total = torch.zeros(layer.logits.shape[-1]).index_add_(
        0, layer.experts.flatten().cpu(), layer.weights.flatten().float().cpu()
    )
    return [float(share) for share in total / total.sum()]


def _joined(parts: Sequence[Routed]) -> Routed:
    return Routed(
        torch.cat([part.logits for part in parts]),
        torch.cat([part.weights for part in parts]),
        torch.cat([part.experts for part in parts]),
    )
