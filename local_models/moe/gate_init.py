"""A gate before any training: from what the routers would see of each expert's own texts.

A router reads the normed hidden state behind attention (`post_attention_layernorm`), so that is what is collected, of
every token. mergekit takes the last token's residual stream instead, which no router ever sees.

L layers, D domains, H the width of the hidden state, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.grafting.plan import decoder_of

GateInit = Literal["random", "hidden", "ridge", "zero"]
RIDGE = 0.1
"""The penalty a token, as measured good where this recipe was found."""
TOKENS = 2048
"""Of each domain, to make a gate from."""
SHARPNESS = 4.0
"""What the ridge's answer, near +-1, is multiplied by to be a logit."""


@dataclass(frozen=True)
class RouterInputs:
    """Sums over the tokens of each domain: `sums` [L, D, H], `gram` [L, H, H] over all, `tokens` a domain."""

    sums: Tensor
    gram: Tensor
    tokens: int


@torch.inference_mode()
def router_inputs(model: Any, domains: Sequence[Tensor]) -> RouterInputs:
    """Read windows [n, T] of each domain; all domains count alike, so the shortest one limits the others.

    `model` is a dense one or a mixture.

    Raises:
        InputError: its layers have no post_attention_layernorm.
    """
    layers = decoder_of(model).layers
    width, count = model.config.hidden_size, min(len(windows) for windows in domains)
    sums = torch.zeros(len(layers), len(domains), width)
    gram = torch.zeros(len(layers), width, width)
    for at, windows in enumerate(domains):
        for row in windows[:count]:
            with heard(layers) as inputs:
                model(input_ids=row[None].to(model.device), use_cache=False, logits_to_keep=1)
            for layer, value in inputs.items():
                seen = value.flatten(0, -2).float().cpu()  # T H
                sums[layer, at] += seen.sum(dim=0)
                gram[layer] += seen.T @ seen
    return RouterInputs(sums, gram, count * domains[0].shape[1])


@contextmanager
def heard(layers: Any) -> Iterator[Mapping[int, Tensor]]:
    """Inside, what each layer's router would see, by layer, each time that the model is called."""
    inputs: dict[int, Tensor] = {}

    def hook(layer: int) -> Any:
        return lambda _module, _args, out: inputs.__setitem__(layer, out)

    norms = [getattr(layer, "post_attention_layernorm", None) for layer in layers]
    if not all(norms):
        raise InputError("the layers have no post_attention_layernorm: what a router would see is not known")
    handles = [norm.register_forward_hook(hook(at)) for at, norm in enumerate(norms) if norm is not None]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def hidden_gate(seen: RouterInputs) -> Tensor:
    """Each domain's mean vector, of unit length: [L, D, H]."""
    return torch.nn.functional.normalize(seen.sums, dim=-1)


def ridge_gate(seen: RouterInputs) -> Tensor:
    """For each domain the ridge regression of +1 on its own tokens and -1 on the others': [L, D, H].

    b_d = (X'X + 0.1 N I)^-1 X'y_d with X'y_d = 2 (sum of d's tokens) - (sum of all), times 4.
    """
    domains, width = seen.sums.shape[1:]
    wanted = 2 * seen.sums - seen.sums.sum(dim=1, keepdim=True)  # L D H
    penalty = RIDGE * seen.tokens * domains * torch.eye(width, dtype=torch.float64)
    solved = [
        torch.linalg.solve(gram.double() + penalty, rows.double().T).T  # D H
        for gram, rows in zip(seen.gram, wanted, strict=True)
    ]
    return SHARPNESS * torch.stack(solved).float()
