"""The council itself, run as the product runs it, and how far what it spent is a budget for others."""

from __future__ import annotations

from collections.abc import Sequence

from eot.errors import NoQuorumError
from eot.types import Exchange, Question
from evaluation.systems import Done, Entrant, Outcome, System, Trial
from topologies import run


def council(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Calls: seats x (1 + rounds played)."""

    async def solve(question: Question, _: Done) -> Outcome:
        seated = await entrant.seat(question)
        result = await run(seated, question, run_id=trial.run_id(question), seed=trial.seed)
        verdict = result.verdict
        return Outcome(
            answer=verdict.answer,
            text=verdict.text,
            usage=result.exchange.usage,
            seconds=critical_path(result.exchange),
            support=verdict.support if verdict.answer is not None else None,
            exchange=result.exchange,
            verdict=verdict.model_copy(update={"scores": {}}),  # n x n numbers that no report reads
        )

    return [System(council_name(entrant), solve, entrant.fingerprint, leads=True)]


def council_name(entrant: Entrant) -> str:
    return f"council:{entrant.name}"


def exchange_of(entrant: Entrant, done: Done) -> Exchange:
    """The council's exchange on this question.

    Raises:
        NoQuorumError: the council gave none, so that nothing can be fitted to it.
    """
    outcome = done.get(council_name(entrant))
    if outcome is None or outcome.exchange is None:
        raise NoQuorumError(f"the council {entrant.name!r} gave no verdict on this question to be measured against")
    return outcome.exchange


def calls_in(exchange: Exchange) -> int:
    """Turns asked for, the silent ones too. Attempts at one turn are the network's doing and count once."""
    return sum(len(turns) for turns in exchange.rounds)


def critical_path(exchange: Exchange) -> float:
    """Seconds: those asked together take as long as the slowest of them, and wait for whoever was asked before."""
    first, *others = exchange.rounds or ((),)
    waves = [tuple(turn for turn in first if turn.agent in wave) for wave in exchange.waves] or [first]
    return sum(max((turn.seconds for turn in turns), default=0.0) for turns in (*waves, *others))
