"""Which layer of which model stands where: a graft is data.

SOLAR's depth up-scaling drops the last m layers of one copy and the first m of another: [0..n-m) + [m..n), which are
2(n-m) layers. Without dropping any, the last layer would hand on to the first, the widest gap that there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from eot.errors import InputError


@dataclass(frozen=True)
class Layer:
    """Layer `index` of model `source` (0, or 1 for the second). An `identity` adds nothing until it is trained."""

    index: int
    source: int = 0
    identity: bool = False


def depth_upscaled(layers: int, removed: int, *, second: bool = False) -> tuple[Layer, ...]:
    """SOLAR's map for n = `layers` and m = `removed`; with `second` the upper part comes from another model.

    Raises:
        InputError: m is not in 0..n.
    """
    if not 0 <= removed < layers:
        raise InputError(f"m = {removed}: of {layers} layers 0 to {layers - 1} can be removed from each copy")
    lower = [Layer(index) for index in range(layers - removed)]
    return (*lower, *(Layer(index, source=int(second)) for index in range(removed, layers)))


def block_expanded(layers: int, added: int) -> tuple[Layer, ...]:
    """LLaMA-Pro's map (arXiv 2401.02415): after each of `added` equal groups, its last layer again as an identity.

    Raises:
        InputError: `added` does not divide the layers.
    """
    if added < 1 or layers % added:
        raise InputError(f"{added} blocks cannot be spread evenly over {layers} layers; take a divisor of {layers}")
    group = layers // added
    made: list[Layer] = []
    for start in range(0, layers, group):
        made += [Layer(index) for index in range(start, start + group)]
        made.append(Layer(start + group - 1, identity=True))
    return tuple(made)


_PART = re.compile(r"(?:([ab]):)?(\d+)(?:-(\d+))?")


def parse_map(text: str, layers: int, *, second: bool = False) -> tuple[Layer, ...]:
    """An explicit map as it is typed: `0-23,8-31`, both ends included, or `a:0-11,b:4-15` for two models.

    Raises:
        InputError: it is no map, or names a layer or a model that is not there.
    """
    made: list[Layer] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if not match:
            raise InputError(f"{part.strip()!r} is no range of layers; write 0-23,8-31 or a:0-11,b:4-15")
        model, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if not first <= last < layers:
            raise InputError(f"{part.strip()!r}: layers go from 0 to {layers - 1}, the lower one first")
        if model == "b" and not second:
            raise InputError(f"{part.strip()!r}: b is a second model, and none was named")
        made += [Layer(index, source=int(model == "b")) for index in range(first, last + 1)]
    return tuple(made)


def said(layers: Sequence[Layer]) -> str:
    """The map as it is typed; identities in brackets."""
    runs = groupby(enumerate(layers), key=lambda at: (at[1].source, at[1].identity, at[1].index - at[0]))
    two = any(layer.source for layer in layers)
    return ",".join(_run([layer for _, layer in run], two=two) for _, run in runs)


def _run(run: Sequence[Layer], *, two: bool) -> str:
    span = f"{run[0].index}-{run[-1].index}" if len(run) > 1 else str(run[0].index)
    named = f"{'ab'[run[0].source]}:{span}" if two else span
    return f"[{named}]" if run[0].identity else named


DEPTH, BLOCKS, MAP = (
    "depth up-scaling, arXiv 2312.15166",
    "block expansion of LLaMA-Pro, arXiv 2401.02415",
    "layers in an order of one's own",
)
UNTRAINED = {
    DEPTH: "it is worse than what it was made from until it is healed by continued pre-training",
    BLOCKS: "until then it answers exactly as what it was made from",
    MAP: "it may be worse than what it was made from until it is healed by continued pre-training",
}
"""What is to be known of a graft by each of the three methods before it is trained."""


def method_of(layers: Sequence[Layer], count: int) -> str:
    """Whose method these layers are, for a model of `count`: `DEPTH` (if it is deeper), `BLOCKS` or `MAP`."""
    made, second = tuple(layers), any(layer.source for layer in layers)
    if any(made == depth_upscaled(count, removed, second=second) for removed in range((count + 1) // 2)):
        return DEPTH
    groups = [added for added in range(1, count + 1) if count % added == 0]
    return BLOCKS if any(made == block_expanded(count, added) for added in groups) else MAP
