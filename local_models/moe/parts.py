"""A mixture's parameters by part: what is frozen, and what decays. By name, so transformers' models work as ours do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eot.errors import InputError
from local_models.moe.routers.route import Route

Part = Literal["router", "experts", "rest"]
Trained = Literal["all", "router", "experts", "all but the experts", "all but the router"]

_EXPERTS = re.compile(r"(^|\.)experts\.")
_ROUTER = re.compile(r"(^|\.)(gate\.(weight|noise_weight|e_score_correction_bias)|shared_expert_gate\.weight)$")
_TRAINED: Mapping[Trained, frozenset[Part]] = {
    "all": frozenset(("router", "experts", "rest")),
    "router": frozenset(("router",)),
    "experts": frozenset(("experts",)),
    "all but the experts": frozenset(("router", "rest")),
    "all but the router": frozenset(("experts", "rest")),
}


def part_of(name: str) -> Part:
    """Which part a parameter belongs to; a shared expert is `rest`, since every token trains it, its gate `router`."""
    if _EXPERTS.search(name):
        return "experts"
    return "router" if _ROUTER.search(name) else "rest"


def train_only(model: nn.Module, trained: Trained) -> int:
    """Freeze all but a part; the trained parameters are counted.

    `all but the experts` is what ST-MoE (arXiv 2202.08906) is reported to have found about as good as all when
    fine-tuning, with less memory and time, and `experts` alone clearly worse.
    """
    wanted = _TRAINED[trained]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in wanted)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def decay_groups(model: nn.Module, *, experts: float, rest: float, router: float = 0.0) -> list[dict[str, Any]]:
    """Groups for AdamW: weight decay by part, none for vectors (norms, biases); frozen parameters are left out."""
    groups: dict[float, list[nn.Parameter]] = {}
    decays = {"experts": experts, "rest": rest, "router": router}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = decays[part_of(name)] if parameter.dim() > 1 else 0.0
            groups.setdefault(decay, []).append(parameter)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()]


def tasked_experts(routes: Iterable[Route], p: float) -> list[int]:
    """ESFT's choice: the fewest experts of a layer whose share of the gate weight on a task's tokens reaches p.

    Wang et al., "Let the Expert Stick to His Last", 2024 (arXiv 2407.01906) (average gate score).

    Raises:
        InputError: there is no route.
    """
    given: Tensor | None = None
    for route in routes:
        count = route.scores.shape[-1]
        flat = route.weights.new_zeros(count + 1)
        each = flat.index_add(0, route.experts.flatten(), route.weights.detach().flatten())[:count]
        given = each if given is None else given + each
    if given is None:
        raise InputError("no route of the task was given: which experts it uses cannot be told")
    shares, experts = (given / given.sum()).sort(descending=True, stable=True)
    needed = int((shares.cumsum(0) - shares < p).sum())
    return sorted(experts[:needed].tolist())


def train_only_experts(layer: nn.Module, chosen: Iterable[int]) -> list[Any]:
    """Within a layer with fused experts, zero the gradients of the others; the hooks' handles remove it again.

    The tensors are whole, so give them no weight decay (`decay_groups(experts=0)`): AdamW decays at gradient 0 too.
    """
    own = sorted(set(chosen))
    train_only(layer, "experts")
    handles = []
    for name, parameter in layer.named_parameters():
        if part_of(name) == "experts":
            mask = torch.zeros(len(parameter), 1, 1, dtype=parameter.dtype, device=parameter.device)
            mask[own] = 1
            handles.append(_masked(parameter, mask))
    return handles


def _masked(parameter: nn.Parameter, mask: Tensor) -> Any:
    return parameter.register_hook(lambda grad: grad * mask)  # type: ignore[no-untyped-call]
