"""From an exchange to a verdict: answers read, ballots cast, the vote taken, and round 0's vote beside it."""

from __future__ import annotations

from collections.abc import Sequence

from eot.types import Exchange, ShadowVerdict, Thought, Verdict
from scoring import (
    Ballot,
    NoJsonError,
    choices_in,
    json_in,
    read_answer,
    read_as_published,
    schema_check,
    vote,
    vote_as_published,
)
from topologies.council import Council


def read(text: str, exchange: Exchange) -> str | None:
    """The canonical answer in this text, or None: an unreadable answer is an abstention."""
    if exchange.mode == "eot-compat":
        return read_as_published(text, exchange.kind)
    question = exchange.question
    if exchange.kind == "json" and json_fault(text, question.json_schema):
        return None
    return read_answer(text, exchange.kind, question.choices or choices_in(question.text))


def json_fault(text: str, schema: str) -> str:
    """Why this text holds no JSON value that fits the schema, or "" when it does."""
    try:
        value = json_in(text)
    except NoJsonError as fault:
        return str(fault)
    return schema_check(schema)(value) if schema else ""


def decide(exchange: Exchange, council: Council) -> Verdict:
    """The vote over the latest thoughts, with the shadow verdict: the same vote over round 0 alone."""
    verdict = _poll(_ballots(exchange, council), exchange, council)
    first = verdict
    if exchange.latest != exchange.first:
        first = _poll([_ballot(thought, council) for thought in exchange.first.values()], exchange, council)
    same = True if first.answer == verdict.answer else None if exchange.kind == "open" else False
    shadow = ShadowVerdict(answer=first.answer, support=first.support, same=same)
    return verdict.model_copy(update={"agent": verdict.agent.removesuffix(FIRST), "shadow": shadow})


FIRST = "/first"
"""Ends the name of a voter that is an agent's first answer: a slash stands in no agent's name."""


def _ballots(exchange: Exchange, council: Council) -> list[Ballot]:
    """The latest thoughts; one that changed its answer shares its ballot with its first, as many change for worse."""
    ballots = []
    for seat, latest in exchange.latest.items():
        first = exchange.first.get(seat)
        changed = first is not None and None not in (first.answer, latest.answer) and first.answer != latest.answer
        if first and changed and council.keep_first and exchange.mode == "default" and exchange.kind != "open":
            ballots += [_ballot(latest, council, 0.5), _ballot(first, council, 0.5, FIRST)]
        else:
            ballots.append(_ballot(latest, council))
    return ballots


def _ballot(thought: Thought, council: Council, share: float = 1.0, suffix: str = "") -> Ballot:
    return Ballot(
        voter=thought.agent + suffix,
        text=thought.text,
        answer=thought.answer,
        confidence=thought.confidence,
        weight=council.weights.get(thought.agent, 1.0) * share,
    )


def _poll(ballots: Sequence[Ballot], exchange: Exchange, council: Council) -> Verdict:
    if exchange.mode == "eot-compat":
        return vote_as_published(ballots)
    schema = exchange.question.json_schema
    return vote(
        ballots,
        method=council.vote,
        kind=exchange.kind,
        embed=council.embed,
        wsdm=council.wsdm,
        fits=lambda value: not schema or not schema_check(schema)(value),
    )
