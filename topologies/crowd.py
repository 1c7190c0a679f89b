"""From an exchange to a verdict: answers read, ballots cast, the vote taken, and round 0's vote beside it."""

from __future__ import annotations

from collections.abc import Mapping

from eot.types import Exchange, ShadowVerdict, Thought, Verdict
from scoring import Ballot, choices_in, read_answer, read_as_published, vote, vote_as_published
from topologies.council import Council


def read(text: str, exchange: Exchange) -> str | None:
    """The canonical answer in this text, or None: an unreadable answer is an abstention."""
    if exchange.mode == "eot-compat":
        return read_as_published(text, exchange.kind)
    question = exchange.question
    return read_answer(text, exchange.kind, question.choices or choices_in(question.text))


def decide(exchange: Exchange, council: Council) -> Verdict:
    """The vote over the latest thoughts, with the shadow verdict: the same vote over round 0 alone."""
    verdict = _poll(exchange.latest, exchange, council)
    first = verdict if exchange.latest == exchange.first else _poll(exchange.first, exchange, council)
    same = True if first.answer == verdict.answer else None if exchange.kind == "open" else False
    shadow = ShadowVerdict(answer=first.answer, support=first.support, same=same)
    return verdict.model_copy(update={"shadow": shadow})


def _poll(thoughts: Mapping[str, Thought], exchange: Exchange, council: Council) -> Verdict:
    ballots = [
        Ballot(
            voter=name,
            text=thought.text,
            answer=thought.answer,
            confidence=thought.confidence,
            weight=council.weights.get(name, 1.0),
        )
        for name, thought in thoughts.items()
    ]
    if exchange.mode == "eot-compat":
        return vote_as_published(ballots)
    return vote(ballots, method=council.vote, kind=exchange.kind, embed=council.embed, wsdm=council.wsdm)
