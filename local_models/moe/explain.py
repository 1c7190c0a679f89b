"""Which expert took which token, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from eot.errors import InputError
from local_models.moe.routing import Load, load_of, watched

MOST_TOKENS = 1024


@dataclass(frozen=True)
class Explained:
    """`tokens` as text; `experts` and `weights` [layer][token][k], best first; `load` of each layer.

    `by_expert` is each expert's share of all assignments, over all layers.
    """

    tokens: tuple[str, ...]
    experts: list[list[list[int]]]
    weights: list[list[list[float]]]
    load: list[Load]

    @property
    def taken(self) -> list[list[float]]:
        """[token][expert]: the weight that each expert had, the mean over layers."""
        found = [[0.0] * len(self.load[0].shares) for _ in self.tokens]
        for experts, weights in zip(self.experts, self.weights, strict=True):
            for row, chosen, shares in zip(found, experts, weights, strict=True):
                for expert, weight in zip(chosen, shares, strict=True):
                    row[expert] += weight / len(self.load)
        return found

    @property
    def by_expert(self) -> tuple[float, ...]:
        return tuple(sum(shares) / len(self.load) for shares in zip(*(one.shares for one in self.load), strict=True))


@torch.inference_mode()
def explain(model: Any, tokenizer: Any, text: str) -> Explained:
    """Read a text with a loaded mixture and say who took what.

    Raises:
        InputError: the text is empty, has more than 1,024 tokens, or the model is no mixture or routes by NaN.
    """
    ids: Sequence[int] = tokenizer.encode(text, add_special_tokens=False)
    if not 0 < len(ids) <= MOST_TOKENS:
        raise InputError(f"the text has {len(ids)} tokens; give 1 to {MOST_TOKENS}")
    with watched(model) as layers:
        model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=1)
    return Explained(
        tokens=tuple(tokenizer.decode([one]) for one in ids),
        experts=[layer.experts.tolist() for layer in layers],
        weights=[[[round(weight, 4) for weight in token] for token in layer.weights.tolist()] for layer in layers],
        load=load_of(layers),
    )
