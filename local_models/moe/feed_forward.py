"""The networks of a layer of experts: their sizes, the E routed ones in two tensors, and the shared one.

Axes: E experts, H hidden, I inner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from eot.errors import InputError
from local_models.moe.pages import Pages


@dataclass(frozen=True)
class Sizes:
    """Of a layer: `hidden` H, `inner` I, `experts` E; `shared` is the width of the shared network, 0 for none.

    `shared_gated`: its output is multiplied by a sigmoid of the token, as in Qwen2-MoE.

    Raises:
        InputError: a width or the number of experts is below 1.
    """

    hidden: int
    inner: int
    experts: int
    shared: int = 0
    shared_gated: bool = False

    def __post_init__(self) -> None:
        if min(self.hidden, self.inner, self.experts) < 1 or self.shared < 0:
            raise InputError(f"{self}: widths and the number of experts must be 1 or more")


class Experts(nn.Module):
    """E SwiGLU networks D_e (silu(G_e x) * (U_e x)): `gate_up_proj` [G; U] E 2I H, `down_proj` E H I."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(sizes.experts, 2 * sizes.inner, sizes.hidden))
        self.down_proj = nn.Parameter(torch.empty(sizes.experts, sizes.hidden, sizes.inner))
        nn.init.normal_(self.gate_up_proj, std=0.02)
        nn.init.normal_(self.down_proj, std=0.02)
        self.pages = Pages()


class SharedExpert(nn.Module):
    """A SwiGLU network that every token passes."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(sizes.hidden, sizes.shared, bias=False)
        self.up_proj = nn.Linear(sizes.hidden, sizes.shared, bias=False)
        self.down_proj = nn.Linear(sizes.shared, sizes.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return y
