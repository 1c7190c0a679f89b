"""Requests that cannot share a forward pass, since each accepts its own number of tokens, take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from eot.errors import CallError, EotError
from local_models.fusion.reader import FullError
from local_models.fusion.request import FusedRequest
from local_models.fusion.trace import FusedLogprob


class Step(NamedTuple):
    """One token of a reply: an id, or a piece of bytes."""

    token: Any
    told: FusedLogprob | None = None
    ended: bool = False


@torch.inference_mode()
def take_turns(runs: Sequence[tuple[FusedRequest, Iterator[Step]]]) -> None:
    """Drive all to their ends. Whoever is done or not wanted any more gives its caches back at once."""
    going = list(runs)
    while going:
        going = [(request, steps) for request, steps in going if _takes_one(request, steps)]


def _takes_one(request: FusedRequest, steps: Iterator[Step]) -> bool:
    if not request.wanted():
        return False
    try:
        step = next(steps, None)
    except CallError as fault:
        request.fail(fault)
        return False
    except (
        EotError
    ) as fault:  # a member has no token for what was written, say: that is one reply's end, not all replies'
        request.fail(CallError(str(fault)))
        return False
    except FullError:
        step = None
    if step is None:
        request.cut()
        return False
    return request.take(step.token, step.told, ended=step.ended)
