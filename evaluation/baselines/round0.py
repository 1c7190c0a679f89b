"""The shadow verdict: the council's own vote over its first answers, without the exchange. Nobody is asked anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eot.types import Question
from evaluation.baselines.council import council_name, critical_path, exchange_of
from evaluation.systems import Done, Entrant, Outcome, System, Trial
from topologies.crowd import decide


def round0(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Calls: one a seat."""
    del trial

    async def solve(question: Question, done: Done) -> Outcome:
        exchange = exchange_of(entrant, done)
        first = exchange.model_copy(update={"rounds": exchange.rounds[:1], "stop": None})
        verdict = done[council_name(entrant)].verdict if len(exchange.rounds) == 1 else None
        if verdict is None:  # an exchange took place: what decided then was not the vote over round 0
            seated = await entrant.seat(question)
            verdict = await asyncio.to_thread(decide, first, seated) if seated.embed else decide(first, seated)
        return Outcome(
            answer=verdict.answer,
            text=verdict.text,
            usage=first.usage,
            seconds=critical_path(first),
            support=verdict.support if verdict.answer is not None else None,
        )

    return [System(f"round0:{entrant.name}", solve, entrant.fingerprint)]
