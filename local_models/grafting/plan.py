"""What each graft would be, before any is built: its size, and its loss on a text without any training.

The layers of the loaded model are put into each order in turn; nothing is copied, and no cache is used, since modules
that stand twice would share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.grafting.layer_map import Layer, depth_upscaled, said

WINDOW = 256
"""Tokens that are read at once: losses are means over such windows, each from its own start."""
GROWTH = 1.25
"""A recommendation adds a quarter of the layers at least: the smaller the graft, the smaller its loss, always."""


@dataclass(frozen=True)
class Planned:
    """One graft: m, its map, layers, parameters, bytes in the model's dtype, and nats a token on the text."""

    removed: int
    map: str
    layers: int
    parameters: int
    size: int
    loss: float


@dataclass(frozen=True)
class Plan:
    """The base beside its grafts. `recommended`: the m of the lowest loss among those that grow enough, if any."""

    base: Planned
    grafts: tuple[Planned, ...]
    tokens: int
    recommended: int | None


def plan(
    model: Any,
    tokenizer: Any,
    text: str,
    removed: Sequence[int] | None = None,
    *,
    windows: int = 8,
    watch: Callable[[Planned], None] = lambda _: None,
) -> Plan:
    """Try depth up-scaling with each m.

    Args:
        model: a transformers causal LM whose decoder has a list `layers`.
        tokenizer: its tokenizer.
        text: of the sort that the model is for; `windows` pieces of 256 tokens are read.
        removed: the m to try; by default every one that makes the model deeper, at most 12 of them, evenly spread.
        windows: how many pieces.
        watch: is handed each graft as it is measured.

    Raises:
        InputError: the text has no 2 tokens, an m is out of range, or the model has no such list.
    """
    decoder = decoder_of(model)
    count = len(decoder.layers)
    ids = _windows(tokenizer, text, windows)
    chosen = _spread(count) if removed is None else list(removed)
    base = _measured(model, decoder, [Layer(at) for at in range(count)], 0, ids)
    grafts = []
    for m in chosen:
        grafts.append(_measured(model, decoder, depth_upscaled(count, m), m, ids))
        watch(grafts[-1])
    deep = [graft for graft in grafts if graft.layers >= GROWTH * count]
    best = min(deep, key=lambda graft: graft.loss).removed if deep else None
    return Plan(base, tuple(grafts), sum(len(piece) for piece in ids), best)


def decoder_of(model: Any) -> Any:
    """The module that holds the list of layers.

    Raises:
        InputError: there is none.
    """
    decoder = getattr(model, "model", model)
    if not isinstance(getattr(decoder, "layers", None), torch.nn.ModuleList):
        raise InputError(f"{type(model).__name__} has no list of decoder layers: it cannot be grafted")
    return decoder


def _spread(count: int, most: int = 12) -> list[int]:
    every = range((count + 1) // 2)  # from half of the layers on, the result is no deeper than the base
    step = max(1, -(-len(every) // most))
    return list(every[::step])


def _windows(tokenizer: Any, text: str, windows: int) -> list[Tensor]:
    ids = torch.tensor(tokenizer.encode(text, add_special_tokens=False)[: windows * WINDOW], dtype=torch.long)
    pieces = [piece for piece in torch.split(ids, WINDOW) if len(piece) > 1]
    if not pieces:
        raise InputError("the text is too short to measure a loss on: give a few sentences")
    return pieces


def _measured(model: Any, decoder: Any, layers: Sequence[Layer], removed: int, ids: Sequence[Tensor]) -> Planned:
    once = {id(parameter): parameter for parameter in model.parameters()}
    inner = {id(parameter) for layer in decoder.layers for parameter in layer.parameters()}
    parameters = sum(one.numel() for key, one in once.items() if key not in inner)
    parameters += sum(one.numel() for layer in layers for one in decoder.layers[layer.index].parameters())
    size = parameters * next(model.parameters()).element_size()
    with rearranged(model, decoder, layers):
        loss = mean_loss(model, ids)
    return Planned(removed, said(layers), len(layers), parameters, size, loss)


@contextmanager
def rearranged(model: Any, decoder: Any, layers: Sequence[Layer]) -> Iterator[None]:
    """The model with its own layers in this order, for reading without a cache; then as it was."""
    modules, config = decoder.layers, model.config.get_text_config()
    kinds, count = getattr(config, "layer_types", None), config.num_hidden_layers
    decoder.layers = torch.nn.ModuleList([modules[layer.index] for layer in layers])
    config.__dict__["num_hidden_layers"] = len(layers)
    if kinds:
        config.__dict__["layer_types"] = [kinds[layer.index] for layer in layers]
    try:
        yield
    finally:
        decoder.layers = modules
        config.__dict__["num_hidden_layers"] = count
        if kinds:
            config.__dict__["layer_types"] = kinds


@torch.inference_mode()
def mean_loss(model: Any, ids: Sequence[Tensor]) -> float:
    """Nats a token over the pieces, each [T]; the first token of a piece is not predicted."""
    total, tokens = 0.0, 0
    for piece in ids:
        row = piece[None].to(model.device)  # 1 T
        logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()  # T-1 V
        total += float(torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum"))
        tokens += len(piece) - 1
    return total / tokens
