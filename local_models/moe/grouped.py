"""The fast paths: choices sorted by expert, so that each expert's tokens lie together and are multiplied at once.

On a CPU one expert after the other, with a backward pass of its own: nothing of T K rows is gathered whole, the gate's
weight multiplies rows of H instead of I, experts without tokens cost nothing but their gradient's zeros, and gradients
that nobody wants (frozen experts, a frozen gate) are not computed. In float32 a product goes to oneDNN, where torch has
it: a fifth to a third less time than `torch.mm` with a few dozen rows. On other devices torch's grouped product.

Axes: T tokens, E experts, K choices a token, N the choices of one expert,
R those of neighbouring experts, H hidden, I inner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from local_models.moe.feed_forward import Experts
from local_models.moe.pages import Pages
from local_models.moe.routers.route import Route

ROWS = 512
"""Experts are taken together up to so many rows: few calls for many small experts, and rows that stay near the core."""
ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")
ONEDNN &= torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def _linear(rows: Tensor, matrix: Tensor) -> Tensor:
    """N A by B A, transposed, to N B. The operator is what torch's own compiler puts in a linear layer's place."""
    if ONEDNN and rows.device.type == "cpu" and rows.dtype == torch.float32 and len(rows):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(rows, matrix, None, "none", [], "")
        return y
    return rows @ matrix.T


@dataclass(frozen=True)
class Group:
    """Neighbouring experts `at`, the `sizes` N of each, their choices' flat places in T K (R in all) and tokens R."""

    at: slice
    sizes: list[int]
    own: Tensor
    tokens: Tensor

    def linear(self, rows: Tensor, matrices: Tensor) -> Tensor:
        """Each expert's rows by its own matrix, transposed: R A, E B A to R B."""
        parts = zip(torch.split(rows, self.sizes), matrices[self.at].unbind(), strict=True)
        outs = [_linear(part, matrix) for part, matrix in parts]
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def outer(self, left: Tensor, right: Tensor, into: Tensor) -> None:
        """Each expert's left^T right, which is 0 without rows: R A, R B into E A B."""
        for one, other, place in zip(
            torch.split(left, self.sizes), torch.split(right, self.sizes), into[self.at].unbind(), strict=True
        ):
            torch.mm(one.T, other, out=place)


@dataclass(frozen=True)
class Work:
    """All that the experts have to do; `kept` T K I is dropout's."""

    groups: list[Group]
    kept: Tensor | None
    pages: Pages

    @classmethod
    def of(cls, route: Route, own: Experts, kept: Tensor | None) -> Work:
        count, flat = len(own.down_proj), route.experts.flatten()
        sizes: list[int] = torch.bincount(flat, minlength=count + 1)[:count].tolist()
        order = flat.argsort(stable=True)  # behind the experts' choices those that nobody serves
        groups, row = [], 0
        for at in _together(sizes):
            rows = order[row : row + sum(sizes[at])]
            groups.append(Group(at, sizes[at], rows, rows // route.experts.shape[-1]))
            row += len(rows)
        return cls(groups, kept, own.pages)

    def dropped(self, active: Tensor, group: Group) -> Tensor:
        """R I after dropout."""
        return active if self.kept is None else active * self.kept.flatten(0, 1).index_select(0, group.own)


def _together(sizes: list[int]) -> Iterator[slice]:
    first, rows = 0, 0
    for e, size in enumerate(sizes):
        if rows and rows + size > ROWS:
            yield slice(first, e)
            first, rows = e, 0
        rows += size
    yield slice(first, len(sizes))


def per_expert(x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
    """One expert after the other, see `dispatch`. Differentiable once."""
    rows, gate_up, down, kept = _cast(x, own, kept)
    work = Work.of(route, own, kept)
    y: Tensor = _PerExpert.apply(rows, route.weights, gate_up, down, work)  # type: ignore[no-untyped-call]
    return y.to(x.dtype)


def _cast(x: Tensor, own: Experts, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The products' operands, in autocast's dtype where that is on: it does not reach into what is written by hand."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, own.gate_up_proj, own.down_proj, kept
    dtype = torch.get_autocast_dtype(x.device.type)
    dropped = None if kept is None else kept.to(dtype)
    return x.to(dtype), own.gate_up_proj.to(dtype), own.down_proj.to(dtype), dropped


class _PerExpert(torch.autograd.Function):
    """y_t = sum_k w_tk D_e (silu(G_e x_t) * (U_e x_t)), e = e_tk; x T H, w T K, [G; U] E 2I H, D E H I."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor, work: Work) -> Tensor:
        wide, flat = weights.dtype, weights.flatten()
        y = torch.zeros(x.shape, dtype=wide, device=x.device)
        saved: list[Tensor] = []
        for group in work.groups:
            inner = group.linear(x.index_select(0, group.tokens), gate_up)  # R 2I
            gate, up = inner.chunk(2, dim=-1)
            out = group.linear(work.dropped(functional.silu(gate).mul_(up), group), down)  # R H
            y.index_add_(0, group.tokens, out.to(wide) * flat.index_select(0, group.own)[:, None])
            saved += (inner, out)
        ctx.save_for_backward(x, weights, gate_up, down, *saved)
        ctx.work = work
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(dy.device.type, enabled=False):  # the dtypes are the forward's
            return _gradients(ctx, dy)


def _gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weights, gate_up, down, *saved = ctx.saved_tensors
    work: Work = ctx.work
    for_x, for_weights, for_gate_up, for_down, _ = ctx.needs_input_grad
    wide, flat = weights.dtype, weights.flatten()
    dx = torch.zeros(x.shape, dtype=wide, device=x.device) if for_x else None
    dweights = torch.zeros_like(flat) if for_weights else None
    dgate_up = work.pages.like(gate_up) if for_gate_up else None
    ddown = work.pages.like(down) if for_down else None
    for group, inner, out in zip(work.groups, saved[::2], saved[1::2], strict=True):
        dout = dy.index_select(0, group.tokens).to(wide)  # R H
        if dweights is not None:
            dweights[group.own] = torch.linalg.vecdot(dout, out.to(wide))
        dout = (dout * flat.index_select(0, group.own)[:, None]).to(x.dtype)
        gate, up = inner.chunk(2, dim=-1)
        swish = functional.silu(gate)  # R I
        if ddown is not None:
            group.outer(dout, work.dropped(swish * up, group), ddown)
        if dx is None and dgate_up is None:
            continue
        dactive = work.dropped(group.linear(dout, down.mT), group)  # R I
        dinner = torch.empty_like(inner)  # R 2I
        dgate, dup = dinner.chunk(2, dim=-1)
        torch.mul(dactive, swish, out=dup)
        torch.ops.aten.silu_backward.grad_input(dactive.mul_(up), gate, grad_input=dgate)
        if dgate_up is not None:
            group.outer(dinner, x.index_select(0, group.tokens), dgate_up)
        if dx is not None:
            dx.index_add_(0, group.tokens, group.linear(dinner, gate_up.mT).to(wide))
    return (
        None if dx is None else dx.to(x.dtype),
        None if dweights is None else dweights.view_as(weights),
        dgate_up,
        ddown,
        None,
    )


def grouped_mm(x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
    """By `torch.nn.functional.grouped_mm` (torch 2.10 or newer); nothing is copied to the host.

    Choices that nobody serves are sorted behind all others, where the kernel leaves unset what it gives.
    """
    like, (x, gate_up, down, kept) = x, _cast(x, own, kept)
    count, flat = len(own.down_proj), route.experts.flatten()
    load = torch.zeros(count + 1, dtype=torch.int32, device=x.device)
    load = load.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))  # bincount would wait for the device
    offsets = load[:count].cumsum(0, dtype=torch.int32)
    order = flat.argsort(stable=True)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    sorting = Sorting(order, back.view_as(route.experts), (route.experts < count)[..., None])
    rows: Tensor = _Taken.apply(x, sorting)  # type: ignore[no-untyped-call]  # TK H
    gate, up = functional.grouped_mm(rows, gate_up.transpose(1, 2), offs=offsets).chunk(2, dim=-1)  # TK I
    active = functional.silu(gate) * up
    if kept is not None:
        active = active * kept.flatten(0, 1)[order]
    out = functional.grouped_mm(active, down.transpose(1, 2), offs=offsets).to(route.weights.dtype)  # TK H
    placed: Tensor = _Placed.apply(out, sorting)  # type: ignore[no-untyped-call]  # T K H
    return (placed * route.weights[..., None]).sum(1).to(like.dtype)


@dataclass(frozen=True)
class Sorting:
    """All T K choices by expert: `order` has their flat places, `back` T K where each then lies, `served` T K 1."""

    order: Tensor
    back: Tensor
    served: Tensor

    def returned(self, rows: Tensor) -> Tensor:
        """Each choice's row, TK H to T K H; zeros where nobody serves."""
        return torch.where(self.served, rows[self.back], 0)


class _Taken(torch.autograd.Function):
    """Each choice's token, sorted: T H to TK H.

    Its derivative, as that of `_Placed`, gathers by the other permutation: torch's own would sort, or add in any order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sorting: Sorting) -> Tensor:
        ctx.sorting = sorting
        return x[sorting.order // sorting.back.shape[-1]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, drows: Tensor) -> tuple[Tensor, None]:
        wide = torch.promote_types(drows.dtype, torch.float32)
        return ctx.sorting.returned(drows).sum(1, dtype=wide).to(drows.dtype), None


class _Placed(torch.autograd.Function):
    """Each choice's row at its token: TK H to T K H."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sorting: Sorting) -> Tensor:
        ctx.sorting = sorting
        return sorting.returned(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dplaced: Tensor) -> tuple[Tensor, None]:
        return dplaced.flatten(0, 1)[ctx.sorting.order], None
