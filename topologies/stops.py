"""When an exchange ends: each rule a function from the exchange so far to why it stops, or None."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from eot.types import Exchange, Stop
from topologies.council import Council

Rule = Callable[[Exchange, Council], str | None]
"""Says why the exchange is over, or None to go on."""

EPSILON = 1e-9


def unanimous(exchange: Exchange, _: Council) -> str | None:
    """All readable latest answers are equal, all seats were asked, and more than half gave one. At round 0 too."""
    answers = _latest_answers(exchange)
    if len(set(answers)) == 1 and 2 * len(answers) > len(exchange.seats) and not exchange.unasked:
        return f"all {len(answers)} readable answers are {answers[0]}"
    return None


def unanimous_as_published(exchange: Exchange, _: Council) -> str | None:
    """Every seat gave a readable answer and all are the same string: the only rule in the published code."""
    answers = _latest_answers(exchange)
    if len(answers) == len(exchange.seats) and len(set(answers)) == 1:
        return f"all {len(answers)} answers are {answers[0]}"
    return None


def majority(exchange: Exchange, council: Council) -> str | None:
    """More than the gate's share of the council's weight agrees, silent and unasked seats counted in the whole."""
    answer, share = leading(exchange, council.weights)
    if answer is None or share <= council.gate + EPSILON:
        return None
    voices = [thought.agent for thought in exchange.latest.values() if thought.answer == answer]
    left = f"; {', '.join(exchange.unasked)} could change nothing and was not asked" if exchange.unasked else ""
    return f"{len(voices)} of {len(exchange.seats)} seats say {answer}{left}"


def leading(exchange: Exchange, weights: Mapping[str, float]) -> tuple[str | None, float]:
    """The answer with the most weight behind it, and its share of the whole council's, in 0..1."""
    behind: defaultdict[str, float] = defaultdict(float)
    for thought in exchange.latest.values():
        if thought.answer is not None:
            behind[thought.answer] += weights.get(thought.agent, 1.0)
    if not behind:
        return None, 0.0
    answer = max(behind, key=behind.__getitem__)
    return answer, behind[answer] / sum(weights.get(seat, 1.0) for seat in exchange.seats)


def stable(exchange: Exchange, _: Council) -> str | None:
    """Nobody is left: every seat has repeated its answer, and so has left the exchange."""
    return "every seat repeated its answer" if not speaking(exchange, ["stable"]) else None


RULES: Mapping[str, Rule] = {"unanimous": unanimous, "majority": majority, "stable": stable}


def why_stop(exchange: Exchange, council: Council) -> Stop | None:
    """The first rule that fires, in the order given; then the cap on rounds. `eot-compat` has one rule of its own."""
    last = len(exchange.rounds) - 1
    if len(exchange.seats) == 1:
        return Stop(rule="alone", round=last, detail="one agent has nobody to exchange with")
    published = exchange.mode == "eot-compat"
    for name in ("unanimous",) if published else council.stop:
        rule = unanimous_as_published if published else RULES[name]
        if why := rule(exchange, council):
            return Stop(rule=name, round=last, detail=why)
    if last >= council.rounds:
        return Stop(rule="rounds", round=last, detail=f"{council.rounds} exchange rounds were allowed")
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
