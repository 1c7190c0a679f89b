"""What a run came to, short enough to ride along in any protocol's answer as its `eot` field."""

from __future__ import annotations

from eot.types import Frozen, Result, ShadowVerdict, Stop, Support, Usage


class Outcome(Frozen):
    """The verdict without texts and matrices. `shadow` is what the first answers alone would have given."""

    run_id: str
    topology: str
    rounds: int
    stop: Stop | None
    agent: str
    answer: str | None
    how: str
    support: float
    shadow: ShadowVerdict | None
    changed: bool | None
    dissent: tuple[Support, ...]
    abstained: tuple[str, ...]
    degraded: bool
    lost: tuple[str, ...]
    notes: tuple[str, ...]
    usage: Usage


def outcome(result: Result) -> Outcome:
    exchange, verdict = result.exchange, result.verdict
    return Outcome(
        run_id=exchange.id,
        topology=exchange.topology,
        rounds=len(exchange.rounds) - 1,
        stop=exchange.stop,
        agent=verdict.agent,
        answer=verdict.answer,
        how=verdict.how,
        support=verdict.support,
        shadow=verdict.shadow,
        changed=verdict.changed,
        dissent=verdict.dissent,
        abstained=verdict.abstained,
        degraded=verdict.degraded,
        lost=verdict.lost,
        notes=verdict.notes,
        usage=exchange.usage,
    )
