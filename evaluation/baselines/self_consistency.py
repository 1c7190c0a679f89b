"""Self-consistency (Wang et al., ICLR 2023, arXiv 2203.11171): one agent sampled k times, the majority wins.

Twice, since "equal budget" means two things: as many calls as the council made on this question, or as many samples
as fit into the tokens, read and written, that the council used on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from eot.errors import NoQuorumError
from eot.types import Question, Reply
from evaluation.alone import elect, samples, slowest, spent
from evaluation.baselines.council import calls_in, exchange_of
from evaluation.systems import Done, Entrant, Outcome, System, Trial

MAX_SAMPLES = 64
"""More than any of the paper's runs drew (40); a guard against samples that cost nothing."""


def self_consistency(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Calls: the council's on the same question."""

    async def solve(question: Question, done: Done) -> Outcome:
        count = calls_in(exchange_of(entrant, done))
        return _voted(entrant, question, await samples(entrant.strongest, question, trial, count), None)

    return [System(f"sc:{entrant.name}", solve, entrant.fingerprint)]


def self_consistency_by_tokens(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Tokens: the council's on the same question, at most; one sample is drawn even if it alone is over."""

    async def solve(question: Question, done: Done) -> Outcome:
        allowance = exchange_of(entrant, done).usage.tokens
        if not allowance:
            raise NoQuorumError(f"the tokens of the council {entrant.name!r} were not counted: nothing can be fitted")
        return _voted(entrant, question, await _fitting(entrant, question, trial, allowance), allowance)

    return [System(f"sc-tokens:{entrant.name}", solve, entrant.fingerprint)]


async def _fitting(entrant: Entrant, question: Question, trial: Trial, allowance: int) -> list[Reply]:
    """The longest run of first samples whose tokens fit.

    As many are drawn at once as would fit if none were longer than the longest so far, but no more than there are: what
    turns out too long was paid for and is not used, and is to be little.
    """
    drawn = await samples(entrant.strongest, question, trial, 1)
    while (used := spent(drawn).tokens) < allowance and len(drawn) < MAX_SAMPLES:
        # All samples read the same prompt: when that alone is too much, no call is wasted on finding out.
        if used + drawn[0].usage.input_tokens >= allowance:
            break
        room = (allowance - used) // max(1, *(reply.usage.tokens for reply in drawn))
        count = min(len(drawn) + max(1, min(room, len(drawn))), MAX_SAMPLES)
        more = await samples(entrant.strongest, question, trial, count)
        fitting = [reply for reply, total in zip(more, _running(more), strict=True) if total <= allowance]
        if len(fitting) < len(more):
            return fitting
        drawn = more
    return drawn


def _running(replies: Sequence[Reply]) -> Iterator[int]:
    return accumulate(reply.usage.tokens for reply in replies)


def _voted(entrant: Entrant, question: Question, replies: Sequence[Reply], allowance: int | None) -> Outcome:
    verdict, usage = elect(question, replies, entrant.strongest.name), spent(replies)
    over = {} if allowance is None else {"allowance_tokens": allowance, "over": usage.tokens > allowance}
    return Outcome(
        answer=verdict.answer,
        text=verdict.text,
        usage=usage,
        seconds=slowest(replies),
        support=verdict.support if verdict.answer is not None else None,
        details={"samples": len(replies), **over},
    )
