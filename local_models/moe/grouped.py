"""The fast paths: choices sorted by expert, so that each expert's tokens lie together and are multiplied at once.

On a CPU one expert after the other, with a backward pass of its own: nothing of T K rows is gathered whole, the gate's
weight multiplies rows of H instead of I, experts without tokens cost nothing but their gradient's zeros, and gradients
that nobody wants (frozen experts, a frozen gate) are not computed. On other devices torch's grouped product.

Axes: T tokens, E experts, K choices a token, S choices that are served, N those of one expert, H hidden, I inner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from local_models.moe.feed_forward import Experts
from local_models.moe.pages import Pages
from local_models.moe.routers.route import Route


@dataclass(frozen=True)
class Work:
    """What each expert has to do: its choices' flat places in T K, in token order; `kept` T K I is dropout's."""

    own: list[Tensor]
    k: int
    kept: Tensor | None
    pages: Pages

    @property
    def busy(self) -> list[tuple[int, Tensor, Tensor]]:
        """Each expert that serves anyone, its choices N and their tokens N."""
        return [(e, own, own // self.k) for e, own in enumerate(self.own) if len(own)]

    def dropped(self, active: Tensor, own: Tensor) -> Tensor:
        """N I after dropout."""
        return active if self.kept is None else active * self.kept.flatten(0, 1).index_select(0, own)

    def blank(self, weight: Tensor) -> Tensor:
        """Room for a weight's gradient: zero for the experts that serve nobody, unset for the others."""
        grad = self.pages.like(weight)
        for e, own in enumerate(self.own):
            if not len(own):
                grad[e].zero_()
        return grad


def per_expert(x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
    """One expert after the other, see `dispatch`. Differentiable once."""
    count, flat = len(own.down_proj), route.experts.flatten()
    loads: list[int] = torch.bincount(flat, minlength=count + 1).tolist()
    by_expert = list(flat.argsort(stable=True).split(loads)[:count])  # without the last: those whom nobody serves
    work = Work(by_expert, route.experts.shape[-1], kept, own.pages)
    y: Tensor = _PerExpert.apply(x, route.weights, own.gate_up_proj, own.down_proj, work)
    return y


class _PerExpert(torch.autograd.Function):
    """y_t = sum_k w_tk D_e (silu(G_e x_t) * (U_e x_t)), e = e_tk; x T H, w T K, G and U E 2I H, D E H I."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor, work: Work) -> Tensor:
        wide, flat = weights.dtype, weights.flatten()
        y = torch.zeros(x.shape, dtype=wide, device=x.device)
        saved: list[Tensor] = []
        for e, own, tokens in work.busy:
            inner = x.index_select(0, tokens) @ gate_up[e].T  # N 2I
            gate, up = inner.chunk(2, dim=-1)
            out = work.dropped(functional.silu(gate).mul_(up), own) @ down[e].T  # N H
            y.index_add_(0, tokens, out.to(wide) * flat.index_select(0, own)[:, None])
            saved += (inner, out)
        ctx.save_for_backward(x, weights, gate_up, down, *saved)
        ctx.work = work
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, gate_up, down, *saved = ctx.saved_tensors
        work: Work = ctx.work
        for_x, for_weights, for_gate_up, for_down, _ = ctx.needs_input_grad
        wide, flat = weights.dtype, weights.flatten()
        dx = torch.zeros(x.shape, dtype=wide, device=x.device) if for_x else None
        dweights = torch.zeros_like(flat) if for_weights else None
        dgate_up = work.blank(gate_up) if for_gate_up else None
        ddown = work.blank(down) if for_down else None
        for (e, own, tokens), inner, out in zip(work.busy, saved[::2], saved[1::2], strict=True):
            dout = dy.index_select(0, tokens).to(wide)  # N H
            if dweights is not None:
                dweights[own] = torch.linalg.vecdot(dout, out.to(wide))
            dout = (dout * flat.index_select(0, own)[:, None]).to(x.dtype)
            gate, up = inner.chunk(2, dim=-1)
            swish = functional.silu(gate)  # N I
            if ddown is not None:
                torch.mm(dout.T, work.dropped(swish * up, own), out=ddown[e])
            if dx is None and dgate_up is None:
                continue
            dactive = work.dropped(dout @ down[e], own)  # N I
            dinner = torch.empty_like(inner)  # N 2I
            dgate, dup = dinner.chunk(2, dim=-1)
            torch.mul(dactive, swish, out=dup)
            dgate.copy_(torch.ops.aten.silu_backward(dactive.mul_(up), gate))
            if dgate_up is not None:
                torch.mm(dinner.T, x.index_select(0, tokens), out=dgate_up[e])
            if dx is not None:
                dx.index_add_(0, tokens, (dinner @ gate_up[e]).to(wide))
        return (
            None if dx is None else dx.to(x.dtype),
            None if dweights is None else dweights.view_as(weights),
            dgate_up,
            ddown,
            None,
        )


def grouped_mm(x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
    """By `torch.nn.functional.grouped_mm` (torch 2.10 or newer); nothing but S is copied to the host."""
    count, flat = len(own.down_proj), route.experts.flatten()
    offsets = torch.bincount(flat, minlength=count + 1)[:count].cumsum(0, dtype=torch.int32)
    served = int(offsets[-1])  # the kernel leaves unset what lies behind
    order = flat.argsort(stable=True)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)).clamp_max(served)
    order = order[:served]
    rows = x[order // route.experts.shape[-1]]  # S H
    gate, up = functional.grouped_mm(rows, own.gate_up_proj.transpose(1, 2), offs=offsets).chunk(2, dim=-1)  # S I
    active = functional.silu(gate) * up
    if kept is not None:
        active = active * kept.flatten(0, 1)[order]
    out = functional.grouped_mm(active, own.down_proj.transpose(1, 2), offs=offsets).to(route.weights.dtype)  # S H
    out = out * route.weights.flatten()[order, None]
    out = torch.cat([out, out.new_zeros(1, out.shape[-1])])  # the last row is for those whom nobody serves
    return out[back].view(*route.experts.shape, -1).sum(1).to(x.dtype)  # index_add would be in no fixed order on a GPU
