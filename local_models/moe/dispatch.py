"""How the experts' outputs are computed for a route: ways that agree, from the fastest to the plainest.

Each takes x T H, the route, the experts, and `kept` T K I or None, dropout's factors on their inner activations,
and gives T H: sum_k w_k E_k(x), summed in fp32 at least, in x's dtype.
Axes: T tokens, E experts, K choices a token, N tokens of one expert, C the highest load, H hidden, I inner.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from local_models.moe.capacity import queue
from local_models.moe.feed_forward import Experts
from local_models.moe.grouped import grouped_mm, per_expert
from local_models.moe.routers.route import Route
from local_models.transformers_load import ROW_BYTES

Dispatch = Callable[[Tensor, Route, Experts, Tensor | None], Tensor]


def grouped(x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
    """The fastest that the device has: see `grouped`. GPUs' grouped product wants rows of whole `ROW_BYTES`."""
    aligned = all(width * 2 % ROW_BYTES == 0 for width in own.down_proj.shape[1:])  # autocast makes two bytes of any
    way = grouped_mm if aligned and x.device.type != "cpu" else per_expert
    return way(x, route, own, kept)


def eager(x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
    """A loop over the experts in plain torch: what the others are measured by."""
    y = torch.zeros(x.shape, dtype=route.weights.dtype, device=x.device)
    # unbind: its backward stacks the gradients once, where gate_up_proj[e] would add E tensors of full size.
    for e, (wide, back) in enumerate(zip(own.gate_up_proj.unbind(), own.down_proj.unbind(), strict=True)):
        tokens, choices = torch.where(route.experts == e)
        gate, up = functional.linear(x[tokens], wide).chunk(2, dim=-1)  # N I
        active = functional.silu(gate) * up
        if kept is not None:
            active = active * kept[tokens, choices]
        out = functional.linear(active, back).to(y.dtype)  # N H
        y = y.index_add(0, tokens, out * route.weights[tokens, choices, None])
    return y.to(x.dtype)


def einsum(x: Tensor, route: Route, own: Experts, kept: Tensor | None) -> Tensor:
    """GShard's one-hot dispatch and combine tensors T E C: O(T E C H) more work, kept as a reference."""
    count, serves = len(own.down_proj), route.experts < len(own.down_proj)
    places = queue(route.experts.T.flatten(), count).view(route.experts.shape[::-1]).T  # T K
    most = int(places[serves].max()) + 1 if bool(serves.any()) else 0
    expert = functional.one_hot(route.experts, count + 1)[..., :count].to(x.dtype)  # T K E
    place = functional.one_hot(places.clamp_max(most), most + 1)[..., :most].to(x.dtype)  # T K C
    send = torch.einsum("tke,tkc->tec", expert, place)
    rows = torch.einsum("tec,th->ech", send, x)
    gate, up = torch.einsum("ech,eih->eci", rows, own.gate_up_proj).chunk(2, dim=-1)
    active = functional.silu(gate) * up  # E C I
    if kept is not None:
        active = active * torch.einsum("tke,tkc,tki->eci", expert, place, kept)
    wide = route.weights.dtype
    out = torch.einsum("eci,ehi->ech", active, own.down_proj).to(wide)
    combine = torch.einsum("tke,tkc,tk->tec", expert.to(wide), place.to(wide), route.weights)
    return torch.einsum("tec,ech->th", combine, out).to(x.dtype)


DISPATCHES: dict[str, Dispatch] = {"grouped": grouped, "eager": eager, "einsum": einsum}
