"""What a mixture's experts are made of, as data: whole feed-forward layers, or pieces of them.

A feed-forward layer is down(act(gate x) * up x); its neurons are rows of `gate` and `up` and columns of `down`, and the
layer is the sum over any partition of them: that is how one is split into fine-grained experts (LLaMA-MoE, 2406.16554;
DeepSeekMoE, 2401.06066). Outputs are scaled so that equal weights over all experts give back the layer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from eot.errors import InputError
from eot.text import counted

Shared = Literal["none", "base", "mean"]
IDLE_WIDTH = 64
"""Neurons of a shared expert that adds nothing: Qwen2-MoE's class has one always."""
SHARE = 0.5
"""What a shared expert counts: its gate of zeros is sigmoid(0)."""


@dataclass(frozen=True)
class FeedForward:
    """One expert: the mean of `models` (0 is the base), pieces `first` to `last` of `pieces`, its output times `scale`.

    No models: an expert of `IDLE_WIDTH` neurons that adds nothing.
    """

    models: tuple[int, ...]
    first: int = 0
    last: int = 1
    pieces: int = 1
    scale: float = 1.0

    def width(self, neurons: int) -> int:
        return neurons * (self.last - self.first) // self.pieces if self.models else IDLE_WIDTH


@dataclass(frozen=True)
class Recipe:
    """The routed experts, the `active` of them that a token takes, and the shared one, if any.

    `source[e]` is the place among the given models that expert e comes from: pieces of one model share a gate's row.
    `noise` is the standard deviation of what is added to copies, in units of each matrix's own.
    """

    experts: tuple[FeedForward, ...]
    source: tuple[int, ...]
    active: int
    shared: FeedForward | None = None
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        count = len(self.experts)
        if not 1 <= self.active <= count:
            raise InputError(
                f"{self.active} active of {counted(count, 'expert')}: between 1 and {count} can be active for a token"
            )


def recipe(  # noqa: PLR0913 - each is an option of the command
    models: int,
    *,
    active: int,
    copies: int = 1,
    pieces: int = 1,
    shared_pieces: int = 0,
    shared: Shared = "none",
    noise: float = 0.0,
    seed: int = 0,
) -> Recipe:
    """Experts from models 1 to `models`, or with 0 from the base alone.

    Args:
        models: how many fine-tuned models there are beside the base.
        active: experts for a token.
        copies: experts from each model (sparse upcycling, arXiv 2212.05055).
        pieces: fine-grained experts that each feed-forward layer is split into.
        shared_pieces: how many of those, of the base's, every token takes. Only where the base alone is split.
        shared: whether the base's whole layer, or the mean of all models', is the expert that every token takes.
        noise: what tells copies apart, see `Recipe`. With any, a mixture of copies is no longer the dense model.
        seed: of the noise and of the split.

    Raises:
        InputError: these do not go together.
    """
    if shared_pieces and (models or shared != "none" or not shared_pieces < pieces):
        raise InputError(
            "shared pieces are fewer than the pieces of one model's layers, without another shared expert: "
            "such as --split 8 --shared-pieces 2"
        )
    if shared == "mean" and not models:
        raise InputError("the mean of one model is the model; write --shared base")
    routed = pieces - shared_pieces
    half = SHARE if shared != "none" else 1.0
    sources = range(1, models + 1) if models else range(1)
    experts = [
        (max(0, source - 1), FeedForward((source,), shared_pieces + at, shared_pieces + at + 1, pieces, routed * half))
        for source in sources
        for _ in range(copies)
        for at in range(routed)
    ]
    return Recipe(
        experts=tuple(expert for _, expert in experts),
        source=tuple(source for source, _ in experts),
        active=active,
        shared=_shared(models, pieces, shared_pieces, shared),
        noise=noise,
        seed=seed,
    )


def _shared(models: int, pieces: int, shared_pieces: int, shared: Shared) -> FeedForward | None:
    """Its output passes a gate of one half: half a layer is the layer, twice some pieces are the pieces."""
    if shared_pieces:
        return FeedForward((0,), 0, shared_pieces, pieces, 1 / SHARE)
    if shared == "none":
        return None
    return FeedForward((0,) if shared == "base" else tuple(range(1, models + 1)))


def refuse_untaught(trains: Collection[str], active: int) -> None:
    """Raise an InputError if routers are to be trained alone whose one active expert always has all the weight."""
    if active == 1 and "router" in trains:
        raise InputError(
            "with one active expert its weight is always 1, so its router learns nothing from the text: "
            "build the mixture with --active 2, train it, and set num_experts_per_tok to 1 afterwards if you must"
        )


def names_of(recipe: Recipe, names: Sequence[str]) -> list[str]:
    """What each expert is called: its model, and which piece of it or copy where there are several."""
    found: list[str] = []
    counts: dict[int, int] = {}
    for source in recipe.source:
        counts[source] = counts.get(source, 0) + 1
        several = recipe.source.count(source) > 1
        found.append(f"{names[source]}.{counts[source]}" if several else names[source])
    return found
