"""Whom to ask next in round 0, so that nobody is asked who can change nothing.

Agents are asked in order of their weight, strongest first, in the smallest groups that could settle the vote: three
equal agents as two, and the third only where they differ. Each group thinks at once, so a settled question waits for
one group and not for one agent after another.
"""

from __future__ import annotations

from collections.abc import Sequence

from eot.types import Exchange
from topologies.council import Council
from topologies.stops import EPSILON, leading, majority

_COUNTED = ("auto", "majority", "confidence")
"""Votes that count equal answers, so that what is still to come can be bounded."""


def next_wave(exchange: Exchange, council: Council) -> tuple[str, ...]:
    """The seats to ask next in round 0, in seat order; none when the majority stands and a quorum has spoken."""
    asked = {turn.agent for turns in exchange.rounds for turn in turns}
    left = sorted((seat for seat in exchange.seats if seat not in asked), key=lambda seat: -_weight(council, seat))
    if not _can_wait(exchange, council):
        return _seated(exchange, left)
    missing = max(0, council.quorum - len(exchange.latest))
    if not missing and majority(exchange, council):
        return ()
    return _seated(exchange, left[: max(missing, _enough(exchange, council, left))])


def _can_wait(exchange: Exchange, council: Council) -> bool:
    """Whether a majority of the first answers ends the run: else everyone must speak."""
    return (
        council.lazy
        and exchange.mode == "default"
        and exchange.kind != "open"
        and "majority" in council.stop
        and council.vote in _COUNTED
    )


def _enough(exchange: Exchange, council: Council, left: Sequence[str]) -> int:
    """The fewest of `left` that could lift the leading answer past the gate; all of them where none could."""
    whole = sum(_weight(council, seat) for seat in exchange.seats)
    share = leading(exchange, council.weights)[1]
    for count, seat in enumerate(left, start=1):
        share += _weight(council, seat) / whole
        if share > council.gate + EPSILON:
            return count
    return len(left)


def _weight(council: Council, seat: str) -> float:
    return council.weights.get(seat, 1.0)


def _seated(exchange: Exchange, chosen: Sequence[str]) -> tuple[str, ...]:
    return tuple(seat for seat in exchange.seats if seat in chosen)
