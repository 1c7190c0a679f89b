"""When an exchange ends: each rule a function from the exchange so far to why it stops, or None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from eot.types import Exchange, Stop

Rule = Callable[[Exchange], str | None]
"""Says why the exchange is over, or None to go on."""


def unanimous(exchange: Exchange) -> str | None:
    """All readable latest answers are equal, and more than half of the seats gave one. Checked at round 0 too."""
    answers = _latest_answers(exchange)
    if len(set(answers)) == 1 and 2 * len(answers) > len(exchange.seats):
        return f"all {len(answers)} readable answers are {answers[0]}"
    return None


def unanimous_as_published(exchange: Exchange) -> str | None:
    """Every seat gave a readable answer and all are the same string: the only rule in the published code."""
    answers = _latest_answers(exchange)
    if len(answers) == len(exchange.seats) and len(set(answers)) == 1:
        return f"all {len(answers)} answers are {answers[0]}"
    return None


def majority(exchange: Exchange) -> str | None:
    """More than half of the seats agree."""
    answers = _latest_answers(exchange)
    if not answers:
        return None
    answer, count = Counter(answers).most_common(1)[0]
    seats = len(exchange.seats)
    return f"{count} of {seats} seats say {answer}" if 2 * count > seats else None


def stable(exchange: Exchange) -> str | None:
    """Nobody is left: every seat has repeated its answer, and so has left the exchange."""
    return "every seat repeated its answer" if not speaking(exchange, ["stable"]) else None


RULES: Mapping[str, Rule] = {"unanimous": unanimous, "majority": majority, "stable": stable}


def why_stop(exchange: Exchange, rules: Sequence[str], max_rounds: int) -> Stop | None:
    """The first rule that fires, in the order given; then the cap on rounds. `eot-compat` has one rule of its own."""
    last = len(exchange.rounds) - 1
    if len(exchange.seats) == 1:
        return Stop(rule="alone", round=last, detail="one agent has nobody to exchange with")
    published = exchange.mode == "eot-compat"
    for name in ("unanimous",) if published else rules:
        rule = unanimous_as_published if published else RULES[name]
        if why := rule(exchange):
            return Stop(rule=name, round=last, detail=why)
    if last >= max_rounds:
        return Stop(rule="rounds", round=last, detail=f"{max_rounds} exchange rounds were allowed")
    return None


def speaking(exchange: Exchange, rules: Sequence[str]) -> tuple[str, ...]:
    """Seats that still take part. Under `stable`, one that repeated its answer neither hears nor speaks any more."""
    if "stable" not in rules or exchange.mode == "eot-compat":
        return exchange.seats
    return tuple(seat for seat in exchange.seats if not _repeated(exchange, seat))


def _repeated(exchange: Exchange, seat: str) -> bool:
    answers = [thought.answer for thought in exchange.of(seat)]
    return any(now is not None and now == before for before, now in pairwise(answers))


def _latest_answers(exchange: Exchange) -> list[str]:
    return [thought.answer for thought in exchange.latest.values() if thought.answer is not None]
