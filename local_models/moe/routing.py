"""What the routers of a loaded mixture decide, watched from outside: transformers' own Mixtral and Qwen2-MoE.

L layers, N tokens, E experts, K active.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.grafting.plan import decoder_of
from local_models.moe import losses


@dataclass(frozen=True)
class Routed:
    """One layer's decisions: `logits` [N, E], `weights` and `experts` [N, K], best first."""

    logits: Tensor
    weights: Tensor
    experts: Tensor

    @property
    def probabilities(self) -> Tensor:
        return self.logits.float().softmax(dim=-1)


def routers_of(model: Any) -> list[Any]:
    """The router of each layer.

    Raises:
        InputError: this is no mixture of a kind that is known here.
    """
    found = [getattr(layer.mlp, "gate", None) for layer in decoder_of(model).layers]
    if not found or not all(hasattr(router, "top_k") for router in found):
        raise InputError(f"{type(model).__name__} is no mixture of experts with a router in every layer")
    return found


@contextmanager
def watched(model: Any) -> Iterator[list[Routed]]:
    """Inside, the decisions of each layer, lowest first, of the last call of the model."""
    routers = routers_of(model)
    seen: list[Routed] = []

    def hook(at: int) -> Any:
        def note(_module: Any, _args: Any, out: Any) -> None:
            if at == 0:
                seen.clear()
            seen.append(Routed(*out))

        return note

    handles = [router.register_forward_hook(hook(at)) for at, router in enumerate(routers)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def balance_loss(layers: Sequence[Routed]) -> Tensor:
    """Switch's (`losses.balance`), the mean over layers: 1 where the load is even."""
    return torch.stack([losses.balance(layer.probabilities, layer.experts) for layer in layers]).mean()


def z_loss(layers: Sequence[Routed]) -> Tensor:
    """ST-MoE's (`losses.z_loss`), the mean over layers."""
    return torch.stack([losses.z_loss(layer.logits.float()) for layer in layers]).mean()


@dataclass(frozen=True)
class Load:
    """How one layer's tokens were spread: each expert's share of the assignments.

    `entropy`: of the router's probabilities, nats a token; `max_violation`: how far the busiest expert is above an even
    share, in even shares (DeepSeek's MaxVio).
    """

    shares: tuple[float, ...]
    entropy: float

    @property
    def max_violation(self) -> float:
        return max(self.shares) * len(self.shares) - 1


def load_of(layers: Sequence[Routed]) -> list[Load]:
    """The load of each layer, lowest first.

    Raises:
        InputError: a router's logits are not finite: whom it asked says nothing then.
    """
    for at, layer in enumerate(layers):
        if not bool(layer.logits.isfinite().all()):
            raise InputError(
                f"the router of layer {at} gives what is no finite number: look for NaN or infinity in its weights, "
                "or in the layers below it"
            )
    return [
        Load(
            tuple(losses.shares(layer.experts, layer.logits.shape[-1]).tolist()),
            float(losses.entropy(layer.probabilities)),
        )
        for layer in layers
    ]
