"""Many prompts read by one model with little padding, and what they begin with read once.

Members of a council on one model share the question, samples of one prompt all of it. Axes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, takewhile
from typing import Any, TypeVar

import torch
from torch import Tensor

from local_models.lane import Lane

SHORTEST_STEM = 32
"""Tokens that prompts must share to have them read once: below, another pass of the model costs more."""
Prompt = tuple[int, ...]
T = TypeVar("T")


def read_apart(model: Any, prompts: Sequence[Prompt], pad: int) -> Iterator[tuple[Lane, Tensor, list[int]]]:
    """Read prompts in as many lanes as keep the padding small; the model's lanes must be joinable.

    Yields:
        A lane, its rows' logits, B V, and the places in `prompts` that the rows are.
    """
    rows: dict[Prompt, list[int]] = {}
    for place, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(place)
    for group in alike(list(rows), len):
        alone, together = by_stem(group)
        for stems in alike(list(together), len):
            lane = Lane(model, stems, pad)
            lane.logits()
            lane.spread([at for at, stem in enumerate(stems) for _ in together[stem]])
            whole = [prompt for stem in stems for prompt in together[stem]]
            lane.read_on([prompt[len(stem) :] for stem in stems for prompt in together[stem]], pad)
            yield _spread(lane, [rows[prompt] for prompt in whole])
        if alone:
            yield _spread(Lane(model, alone, pad), [rows[prompt] for prompt in alone])


def read_together(model: Any, prompts: Sequence[Prompt], pad: int) -> tuple[Lane, Tensor, list[int]]:
    """Read them all in one lane, as they are."""
    lane = Lane(model, prompts, pad)
    return lane, lane.logits(), list(range(len(prompts)))


def _spread(lane: Lane, rows: Sequence[Sequence[int]]) -> tuple[Lane, Tensor, list[int]]:
    """Read on, then give each prompt's place to all the rows that have it."""
    logits, places = lane.logits(), [at for at, sharing in enumerate(rows) for _ in sharing]
    if len(places) > len(rows):
        lane.spread(places)
        logits = logits[torch.tensor(places, device=logits.device)]
    return lane, logits, [row for sharing in rows for row in sharing]


def alike(things: Sequence[T], size: Callable[[T], int]) -> list[list[T]]:
    """Those of about one size together: the largest of a group is at most half as large again as its smallest."""
    groups = list[list[T]]()
    for thing in sorted(things, key=size):
        if not groups or 2 * size(thing) > 3 * size(groups[-1][0]):
            groups.append([])
        groups[-1].append(thing)
    return groups


def by_stem(prompts: Sequence[Prompt]) -> tuple[list[Prompt], dict[Prompt, list[Prompt]]]:
    """Prompts that begin as no other does, and the others by their longest common beginning, which is no whole one.

    In order, neighbours belong together unless one of them shares twice as much with its other neighbour: a head that
    all prompts have does not hide the question that some of them share.
    """
    alone, together = list[Prompt](), dict[Prompt, list[Prompt]]()
    for sharing in _families(sorted(prompts)):
        stem = _common(sharing[0], sharing[-1])
        if len(sharing) == 1 or len(stem) < SHORTEST_STEM:
            alone += sharing
        else:
            together.setdefault(stem, []).extend(sharing)
    return alone, together


def _families(ordered: list[Prompt]) -> Iterator[list[Prompt]]:
    shared = [len(_common(one, other)) for one, other in pairwise(ordered)]
    family = ordered[:1]
    for at, other in enumerate(ordered[1:]):
        around = max(shared[max(at - 1, 0) : at + 2])
        if 2 * shared[at] < around:
            yield family
            family = []
        family.append(other)
    yield family


def _common(one: Prompt, other: Prompt) -> Prompt:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return one[: min(sum(1 for _ in same), len(one) - 1, len(other) - 1)]
