"""One reference layer of experts: a gate, E SwiGLU experts, a shared one if wanted, and a router to choose.

Parameters are named and shaped as transformers 5 has them in Mixtral's and Qwen2-MoE's blocks (`gate.weight`,
`experts.gate_up_proj` E 2I H, `experts.down_proj` E H I, `shared_expert.*`, `shared_expert_gate.weight`), so that their
weights load as they are. Axes: B sequences, N tokens each, T tokens, E experts, K choices a token, H hidden, I inner.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from eot.errors import InputError, UnknownNameError
from local_models.moe.capacity import Capacity, limited
from local_models.moe.dispatch import DISPATCHES, Dispatch
from local_models.moe.feed_forward import Experts, SharedExpert, Sizes
from local_models.moe.routers.route import Gate, Route, Router, refuse_unsound


class Mixed(NamedTuple):
    """The layer's output, shaped as its input and without the residual, and the route that led to it."""

    y: Tensor
    route: Route


class MoELayer(nn.Module):
    """y = sum_k w_k E_k(x) + the shared expert's, by the router's route.

    Args:
        sizes: the widths, and how many experts.
        router: frozen data, see `routers`.
        capacity: how many tokens an expert may serve; None is no limit (dropless).
        dropout: of the experts' inner activations while training; Switch fine-tunes with 0.4 there, 0.1 elsewhere.
        dispatch: `grouped`, `eager` or `einsum`: equal but for rounding.

    `step` is what a capacity schedule reads; whoever trains counts it up.

    Raises:
        InputError: the router wants more experts than there are, or a number is out of range.
        UnknownNameError: there is no such dispatch.
    """

    def __init__(
        self,
        sizes: Sizes,
        router: Router,
        *,
        capacity: Capacity | None = None,
        dropout: float = 0.0,
        dispatch: str = "grouped",
    ) -> None:
        super().__init__()
        refuse_unsound(router)
        router.most(sizes.experts)
        if dispatch not in DISPATCHES:
            raise UnknownNameError("dispatch", dispatch, DISPATCHES)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout = {dropout}: a share of 0 or more and below 1")
        self.sizes, self.router, self.capacity, self.dropout = sizes, router, capacity, dropout
        self.dispatch: Dispatch = DISPATCHES[dispatch]
        self.step = 0
        self.gate = Gate(sizes.hidden, sizes.experts, noisy=router.noisy, biased=router.biased)
        self.experts = Experts(sizes)
        self.shared_expert = SharedExpert(sizes) if sizes.shared else None
        gated = sizes.shared and sizes.shared_gated
        self.shared_expert_gate = nn.Linear(sizes.hidden, 1, bias=False) if gated else None

    def forward(self, x: Tensor) -> Mixed:
        """Mix T H, or B N H.

        Raises:
            InputError: the gate's logits are not finite.
        """
        route = self.route(x)
        flat = x.reshape(-1, x.shape[-1])  # T H
        y = self.dispatch(flat, route, self.experts, self._kept(route, x.dtype))
        return Mixed(self.with_shared(y.view(x.shape), x), route)

    def with_shared(self, y: Tensor, x: Tensor) -> Tensor:
        """y, shaped as x, and what the shared expert adds, if there is one."""
        if self.shared_expert is None:
            return y
        shared: Tensor = self.shared_expert(x)
        return y + (shared if self.shared_expert_gate is None else self.shared_expert_gate(x).sigmoid() * shared)

    def route(self, x: Tensor) -> Route:
        """Where the tokens of x, T H or B N H, go, full experts taken into account."""
        flat, count = x.reshape(-1, x.shape[-1]), self.sizes.experts
        route = self.router(self.gate, flat, training=self.training, sequences=len(x) if x.dim() > 2 else 1)
        if self.capacity is None:
            return route
        choices = int(route.load.sum()) if self.router.varying else self.router.most(count) * len(flat)
        return limited(route, self.capacity.places(choices, count, training=self.training, step=self.step))

    def _kept(self, route: Route, dtype: torch.dtype) -> Tensor | None:
        """Dropout's factors T K I, drawn before the dispatch so that all of them drop the same."""
        if not (self.training and self.dropout):
            return None
        ones = torch.ones(*route.experts.shape, self.sizes.inner, dtype=dtype, device=route.experts.device)
        return functional.dropout(ones, self.dropout)
