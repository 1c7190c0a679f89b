"""What is told of each fused token: the fused log probabilities, and how each member came to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from local_models.engine import TokenLogprob

Top = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class MemberView:
    """One member's side. `logprob` is its own, of the token that was chosen; `top` are its own likeliest tokens.

    `share` is w p(token) over the sum of all members': how much of the choice was its doing.
    """

    name: str
    logprob: float
    share: float
    top: Top


@dataclass(frozen=True)
class FusedLogprob(TokenLogprob):
    """A fused token. `won`: the members whose own likeliest token it was; none where fusion made it so."""

    members: tuple[MemberView, ...] = ()
    won: tuple[str, ...] = ()


def tell(
    names: Sequence[str],
    weights: Sequence[float],
    members: Tensor,
    fused: Tensor,
    chosen: int,
    count: int,
    text: Callable[[int], str],
) -> FusedLogprob:
    """Describe one choice. members N C and fused C are log probabilities of C candidates, `text` what each writes.

    A member with weight 0 was lost, or never counted, and is left out.
    """
    voting = [place for place, weight in enumerate(weights) if weight > 0]
    own = [float(members[place, chosen]) for place in voting]
    mass = [weights[place] * math.exp(logprob) for place, logprob in zip(voting, own, strict=True)]
    tops = [_top(members[place], count, text) for place in voting]
    views = tuple(
        MemberView(names[place], logprob, part / sum(mass) if sum(mass) else 0.0, top)
        for place, logprob, part, top in zip(voting, own, mass, tops, strict=True)
    )
    best = members.argmax(-1).tolist()
    return FusedLogprob(
        token=text(chosen),
        logprob=float(fused[chosen]),
        top=_top(fused, count, text),
        members=views,
        won=tuple(names[place] for place in voting if best[place] == chosen),
    )


def _top(logprobs: Tensor, count: int, text: Callable[[int], str]) -> Top:
    values, places = logprobs.topk(min(count, len(logprobs)))
    return tuple((text(place), value) for place, value in zip(places.tolist(), values.tolist(), strict=True))
