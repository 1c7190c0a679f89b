"""The one loop that runs every topology: play a round, stop or play another, vote.

The only file that knows LangGraph. A round is one node and its agents think at once inside it, which meets three of
LangGraph's traps: a parallel node that raises cancels its siblings, so a turn catches everything and returns a
Silence; a node for each seat costs more processor time; and checkpoints cost more still,
so none is kept (a run that died is run again under its id, and the memo answers for every call that was paid).
Rounds are synchronous: every prompt of round k is built from round k-1 before anyone is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from eot.errors import (
    BudgetError,
    BudgetSpentError,
    CallError,
    EotError,
    NoQuorumError,
    QuestionError,
    StoppedError,
)
from eot.events import Event, RunStarted, Stopped, Token, TurnEnded, TurnStarted, VerdictReached, VoteStarted, Watch
from eot.text import clean
from eot.types import Delta, Exchange, Prompt, Question, Result, Silence, Stop, Thought, Turn, Usage, Verdict
from scoring import choices_in, infer_kind
from topologies.confidence import confidence, confidence_as_published
from topologies.council import Council
from topologies.crowd import decide, read
from topologies.drift import drift_notes
from topologies.prompts import prompt_for
from topologies.stops import speaking, why_stop
from topologies.waves import next_wave


async def run(
    council: Council, question: Question, *, run_id: str, seed: int = 0, watch: Watch | None = None
) -> Result:
    """Let the council exchange its thoughts on a question and vote.

    Args:
        council: who sits, and the rules.
        question: what is asked.
        run_id: names the run; the same id again asks only for what was not paid yet.
        seed: the run's seed, from which each agent's seed of each round is made.
        watch: is handed every event as it happens.

    Raises:
        QuestionError: it is to be answered with a choice, and has none.
        NoQuorumError: too few agents answered.
        BudgetError: a cap was reached before enough agents had answered.
    """
    kind = question.kind or infer_kind(question.text, question.choices)
    if kind == "choice" and len(question.choices or choices_in(question.text)) < 2:
        raise QuestionError('a question of kind "choice" needs two choices or more, beside its text or in it')
    exchange = Exchange(
        id=run_id, question=question, kind=kind, topology=council.topology, hears=council.hears, mode=council.mode
    )
    floor = _Floor(council, exchange.id, seed, watch)
    floor.tell(
        RunStarted,
        question=question,
        kind=kind,
        topology=council.topology,
        hears=council.hears,
        max_rounds=council.rounds,
    )
    steps = council.rounds + 3  # round 0, the exchange rounds, the vote, and one that LangGraph keeps in hand
    state = await _graph().ainvoke({"exchange": exchange}, context=floor, config={"recursion_limit": steps})
    return Result(question=question, exchange=state["exchange"], verdict=state["verdict"])


@dataclass
class _Floor:
    """What the nodes of one run share: the council, and how to tell the story."""

    council: Council
    run_id: str
    seed: int
    watch: Watch | None
    started: float = field(default_factory=time.monotonic)

    def tell(self, event: Callable[..., Event], **facts: Any) -> None:
        if self.watch:
            self.watch(event(run_id=self.run_id, at=time.monotonic() - self.started, **facts))


class _State(TypedDict, total=False):
    exchange: Exchange
    verdict: Verdict


@cache
def _graph() -> Any:
    graph = StateGraph(_State, context_schema=_Floor)
    graph.add_node("round", _round, destinations=("round", "vote"))
    graph.add_node("vote", _vote)
    graph.add_edge(START, "round")
    graph.add_edge("vote", END)
    return graph.compile()


async def _round(state: _State, runtime: Runtime[_Floor]) -> Command[str]:
    """Play one round: every seat that still takes part thinks at once. Then stop and vote, or play another.

    Where to go is said here and not by a conditional edge, which would cost a millisecond an exchange.
    """
    floor, exchange = runtime.context, state["exchange"]
    exchange = await (_exchanged(floor, exchange) if exchange.rounds else _alone(floor, exchange))
    _refuse_without_quorum(exchange, floor.council.quorum)
    stop = _ended_midway(exchange) or why_stop(exchange, floor.council)
    stop = stop or _spent(exchange, floor.council)
    if stop:
        floor.tell(Stopped, stop=stop)
    exchange = exchange.model_copy(update={"stop": stop})
    return Command(update={"exchange": exchange}, goto="vote" if stop else "round")


async def _alone(floor: _Floor, exchange: Exchange) -> Exchange:
    """Round 0: each agent by itself, and no more of them than it takes (`topologies.waves`)."""
    while wave := next_wave(exchange, floor.council):
        if exchange.waves and floor.council.exhausted():
            break
        asks = [(seat, (), prompt_for(_blank(exchange), seat, (), floor.seed, floor.council.salt)) for seat in wave]
        turns = [turn for turns in exchange.rounds for turn in turns]
        turns += await asyncio.gather(*(_think(floor, _blank(exchange), *ask) for ask in asks))
        in_seat_order = tuple(sorted(turns, key=lambda turn: exchange.seats.index(turn.agent)))
        exchange = exchange.model_copy(update={"rounds": (in_seat_order,), "waves": (*exchange.waves, wave)})
    return exchange


def _blank(exchange: Exchange) -> Exchange:
    """Before anyone spoke: whoever is asked later in round 0 knows no more than the first."""
    return exchange.model_copy(update={"rounds": ()})


async def _exchanged(floor: _Floor, exchange: Exchange) -> Exchange:
    """A round of exchange: everyone who takes part reads its peers' last messages and thinks again."""
    present, said = speaking(exchange, floor.council.stop), exchange.latest
    asks = []
    for seat in present:
        reads = tuple(peer for peer in exchange.hears[seat] if peer != seat and peer in said and peer in present)
        asks.append((seat, reads, prompt_for(exchange, seat, reads, floor.seed, floor.council.salt)))
    turns = await asyncio.gather(*(_think(floor, exchange, *ask) for ask in asks))
    return exchange.model_copy(update={"rounds": (*exchange.rounds, tuple(turns))})


async def _think(floor: _Floor, exchange: Exchange, name: str, reads: tuple[str, ...], prompt: Prompt) -> Turn:
    """One agent's turn. Whatever goes wrong becomes a Silence: it must not cancel the others."""
    floor.tell(TurnStarted, agent=name, round=prompt.round, reads=reads)
    start = time.monotonic()
    turn: Turn
    try:
        turn = await _thought(floor, exchange, name, prompt)
    except Exception as fault:  # noqa: BLE001 - a failing agent never fails the exchange, whatever it raises
        turn = _silence(name, prompt.round, fault, time.monotonic() - start)
    floor.tell(TurnEnded, turn=turn)
    return turn


def _silence(name: str, turn: int, fault: Exception, seconds: float) -> Silence:
    """The failure as a value. How many tokens failed attempts took, nobody tells."""
    known = isinstance(fault, EotError)
    calls = fault.calls if isinstance(fault, CallError) else 0
    return Silence(
        agent=name,
        round=turn,
        reason=fault.reason if isinstance(fault, CallError) else "error",
        detail=clean(str(fault) if known else f"{type(fault).__name__}: {fault}"),
        usage=Usage(calls=calls),
        seconds=seconds,
    )


async def _thought(floor: _Floor, exchange: Exchange, name: str, prompt: Prompt) -> Thought:
    def hear(delta: Delta) -> None:
        floor.tell(Token, agent=name, round=prompt.round, text=delta.text, restart=delta.restart)

    reply = await floor.council.agents[name].ask(prompt, hear)
    answer = read(reply.text, exchange)
    answers = [*(thought.answer for thought in exchange.of(name)), answer]
    sure = confidence_as_published if exchange.mode == "eot-compat" else confidence
    return Thought(
        agent=name,
        round=prompt.round,
        text=reply.text,
        answer=answer,
        confidence=sure(answers),
        usage=reply.usage,
        finish=reply.finish,
        seconds=reply.seconds,
        recalled=reply.recalled,
        tool_calls=reply.tool_calls,
    )


def _ended_midway(exchange: Exchange) -> Stop | None:
    """What kept someone from speaking in the last round ended the exchange, whatever else may be true of it.

    A cap of the budget, or whoever had asked: what there is by then is voted on.
    """
    for turn in exchange.rounds[-1]:
        if isinstance(turn, Silence) and turn.reason in (BudgetSpentError.reason, StoppedError.reason):
            return Stop(rule=turn.reason, round=turn.round, detail=turn.detail)
    return None


def _spent(exchange: Exchange, council: Council) -> Stop | None:
    cap = council.exhausted()
    return Stop(rule="budget", round=len(exchange.rounds) - 1, detail=cap) if cap else None


def _refuse_without_quorum(exchange: Exchange, quorum: int) -> None:
    heard = len(exchange.latest)
    if heard >= quorum:
        return
    why = "; ".join(f"{silence.agent}: {silence.detail or silence.reason}" for silence in exchange.silences)
    short = f"{heard} of {len(exchange.seats)} agents answered and {quorum} are needed ({why})"
    if any(silence.reason == BudgetSpentError.reason for silence in exchange.silences):
        raise BudgetError(f"the budget was spent before there was anything to vote on: {short}")
    raise NoQuorumError(short)


async def _vote(state: _State, runtime: Runtime[_Floor]) -> _State:
    """Vote over the latest thoughts, and over round 0 alone: the difference is what the exchange did."""
    floor, exchange = runtime.context, state["exchange"]
    floor.tell(VoteStarted, method=floor.council.vote, voters=tuple(exchange.latest))
    if floor.council.embed or floor.council.wsdm:  # both may take seconds: off the event loop
        verdict = await asyncio.to_thread(decide, exchange, floor.council)
    else:
        verdict = decide(exchange, floor.council)
    verdict = verdict.model_copy(update={"lost": exchange.lost, "notes": (*verdict.notes, *drift_notes(exchange))})
    floor.tell(VerdictReached, exchange=exchange, verdict=verdict)
    return {"verdict": verdict}
