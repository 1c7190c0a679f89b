"""Asking an agent outside a council, in the council's own words, so that an answer both need is paid for once.

Sample 0 of an agent is its answer in round 0 of every council it sits in; further samples differ by their seed alone.
They are drawn in a fixed order: the first k of n samples are what k samples would have been.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence

from eot.types import Agent, Exchange, Prompt, Question, Reply, Thought, Usage, Verdict
from evaluation.systems import Outcome, Trial
from scoring import Ballot, infer_kind, vote
from topologies.crowd import read
from topologies.prompts import prompt_for


def sample_prompt(question: Question, name: str, trial: Trial, at: int) -> Prompt:
    """What the agent is asked for its sample `at`: 0 is the prompt of a council's round 0, seed included."""
    return _reseeded(prompt_for(_blank(question, [name], trial), name, (), trial.seed), name, trial, at)


def _reseeded(prompt: Prompt, name: str, trial: Trial, at: int) -> Prompt:
    if at == 0:
        return prompt
    digest = hashlib.sha256(f"{trial.seed} {name} sample {at}".encode()).digest()
    return prompt.model_copy(update={"seed": int.from_bytes(digest[:4], "big") >> 1})


def aggregation_prompt(
    question: Question, name: str, trial: Trial, proposals: Sequence[str], *, layer: int, salt: str
) -> Prompt:
    """What an aggregator is asked: the question, and others' whole solutions, as a council quotes them to a newcomer.

    The words are those of an exchange on purpose: systems then differ by who reads what, not by how they are asked.
    The proposals carry numbers, no names. `layer` counts from 0, the layer without references; `salt` makes the marks
    around the proposals unforeseeable to their writers.
    """
    writers = [f"#{number}" for number in range(1, len(proposals) + 1)]
    turns = tuple(
        Thought(agent=writer, round=layer - 1, text=text) for writer, text in zip(writers, proposals, strict=True)
    )
    heard = _blank(question, [name, *writers], trial).model_copy(update={"rounds": ((),) * (layer - 1) + (turns,)})
    return prompt_for(heard, name, tuple(writers), trial.seed, salt)


async def ask_all(asks: Iterable[tuple[Agent, Prompt]]) -> list[Reply]:
    """All at once. Every call is waited for before the first failure is raised: what was paid for is kept.

    Raises:
        eot.errors.CallError: an agent did not answer.
    """
    replies = await asyncio.gather(*(agent.ask(prompt) for agent, prompt in asks), return_exceptions=True)
    got = [reply for reply in replies if isinstance(reply, Reply)]
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return got


async def samples(agent: Agent, question: Question, trial: Trial, count: int) -> list[Reply]:
    """The agent's first `count` samples."""
    first = sample_prompt(question, agent.name, trial, 0)
    return await ask_all((agent, _reseeded(first, agent.name, trial, at)) for at in range(count))


def elect(question: Question, replies: Sequence[Reply], voter: str) -> Verdict:
    """The majority of these replies; ties, and open questions, by likeness of words and characters."""
    exchange = _blank(question, [voter], Trial())
    ballots = [
        Ballot(voter=f"{voter}#{at}", text=reply.text, answer=read(reply.text, exchange))
        for at, reply in enumerate(replies)
    ]
    return vote(ballots, method="auto", kind=exchange.kind)


def told(question: Question, layers: Sequence[Sequence[Reply]]) -> Outcome:
    """The outcome where the last layer is one reply that speaks for all; each layer waits for the one before."""
    spoken = layers[-1][0]
    return Outcome(
        answer=read(spoken.text, _blank(question, ["one"], Trial())),
        text=spoken.text,
        usage=spent(reply for layer in layers for reply in layer),
        seconds=sum(slowest(layer) for layer in layers),
    )


def spent(replies: Iterable[Reply]) -> Usage:
    return sum((reply.usage for reply in replies), Usage())


def slowest(replies: Iterable[Reply]) -> float:
    return max((reply.seconds for reply in replies), default=0.0)


def _blank(question: Question, seats: Sequence[str], trial: Trial) -> Exchange:
    """An exchange before its first word: what prompts are made from and answers read by."""
    return Exchange(
        id=trial.run_id(question),
        question=question,
        kind=question.kind or infer_kind(question.text, question.choices),
        topology="alone",
        hears={seat: (seat,) for seat in seats},
    )
