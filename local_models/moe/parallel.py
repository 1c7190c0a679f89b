"""Expert parallelism: each process holds its share of the experts, and tokens travel to them and back.

Every process routes its own tokens with the same gate (balance losses and capacity count those alone, as in GShard's
groups), sends each choice's row to the process that holds the expert, and weighs what comes back: two all-to-alls of
rows forward, two backward. Tested with gloo and two processes; nccl takes the same calls and has not been run.

Axes: W processes, E experts in all, L = E/W here, T tokens here, K choices a token, S rows sent, R received, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from eot.errors import InputError
from local_models.moe.dispatch import Dispatch
from local_models.moe.feed_forward import Experts
from local_models.moe.layer import MoELayer
from local_models.moe.parts import part_of
from local_models.moe.routers.route import Route

Group = distributed.ProcessGroup


def shard(layer: MoELayer, group: Group | None = None) -> MoELayer:
    """Let the layer keep only this process's experts, in order of rank; all processes must hold the same layer before.

    Raises:
        InputError: the experts cannot be spread evenly.
    """
    size, rank = distributed.get_world_size(group), distributed.get_rank(group)
    if layer.sizes.experts % size:
        raise InputError(f"{layer.sizes.experts} experts cannot be spread evenly over {size} processes")
    own = layer.experts
    for name in ("gate_up_proj", "down_proj"):
        whole: Tensor = getattr(own, name)
        setattr(own, name, nn.Parameter(whole.detach().chunk(size)[rank].clone(), requires_grad=whole.requires_grad))
    layer.dispatch = Exchanged(layer.dispatch, group)
    return layer


def average_gradients(model: nn.Module, group: Group | None = None) -> None:
    """Gradients of the mean of the processes' losses: what is replicated is averaged, an expert has its sum already."""
    size = distributed.get_world_size(group)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        if part_of(name) != "experts":
            distributed.all_reduce(parameter.grad, group=group)
        parameter.grad /= size


@dataclass(frozen=True)
class Exchanged:
    """A dispatch around a dispatch: `inner` serves the rows that arrive at this process's experts."""

    inner: Dispatch
    group: Group | None = None

    def __call__(self, x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
        size, local = distributed.get_world_size(self.group), len(own.down_proj)
        flat = route.experts.flatten()
        sent = torch.bincount(flat, minlength=size * local + 1)[: size * local].view(size, local)  # W L
        order = flat.argsort(stable=True)[: int(sent.sum())]  # S, by process and expert
        received = torch.empty_like(sent)
        distributed.all_to_all_single(received, sent, group=self.group)
        swap = Swap(sent.sum(1).tolist(), received.sum(1).tolist(), self.group)
        tokens = order // route.experts.shape[-1]
        rows = swap(x[tokens])  # R H
        expert = torch.arange(local, device=x.device).repeat(size).repeat_interleave(received.flatten())  # R
        arrived = Route(x.new_empty(0, local), x.new_empty(0, local), expert[:, None], _ones(rows, route.weights.dtype))
        dropped = None if kept is None else swap(kept.flatten(0, 1)[order])[:, None]  # R 1 I
        out = swap.back(self.inner(rows, arrived, own, dropped)).to(route.weights.dtype)  # S H
        weighed = out * route.weights.flatten()[order, None]
        return torch.zeros_like(x, dtype=weighed.dtype).index_add(0, tokens, weighed).to(x.dtype)


def _ones(rows: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.ones(len(rows), 1, dtype=dtype, device=rows.device)


@dataclass(frozen=True)
class Swap:
    """An all-to-all of rows: `sent` to and `received` from each process. Its gradient is the way back."""

    sent: list[int]
    received: list[int]
    group: Group | None

    def __call__(self, rows: Tensor) -> Tensor:
        arrived: Tensor = _Swapped.apply(rows, self)  # type: ignore[no-untyped-call]
        return arrived

    def back(self, rows: Tensor) -> Tensor:
        return Swap(self.received, self.sent, self.group)(rows)


class _Swapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, swap: Swap) -> Tensor:
        ctx.swap = swap
        return _exchange(rows, swap.sent, swap.received, swap.group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _exchange(grad, ctx.swap.received, ctx.swap.sent, ctx.swap.group), None


def _exchange(rows: Tensor, sent: list[int], received: list[int], group: Group | None) -> Tensor:
    out = rows.new_empty(sum(received), *rows.shape[1:])
    distributed.all_to_all_single(out, rows.contiguous(), received, sent, group=group)
    return out
