"""Ballots, and the poll they make: who counts, for which answer, with how much weight."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from eot.types import Kind, Support
from scoring.read import canonical

EPSILON = 1e-9
"""Shares and similarities nearer than this are equal: they differ by rounding alone."""

_REFUSAL = re.compile(
    r"""\s*(?:(?:i['’]?m\ (?:very\ )?sorry|i\ am\ sorry|sorry\b|i\ apologi[sz]e|as\ an\ ai\b|很?抱歉|对不起)
        .{0,160}?(?:can['’]?t|cannot|unable|not\ able|won['’]t|无法|不能|没办法)
      |i\ (?:can['’]?t|cannot|am\ unable\ to|won['’]t)\ (?:help|assist|answer|provide|comply|fulfil|discuss)
      |我(?:无法|不能)(?:回答|提供|帮助|协助))""",
    re.VERBOSE | re.IGNORECASE,
)
_LONGEST_REFUSAL = 600


@dataclass(frozen=True, slots=True)
class Ballot:
    """One voter's final text, and the answer read from it (None: unreadable, an abstention).

    Raises:
        ValueError: the weight is not above 0, or the confidence not in 0..1.
    """

    voter: str
    text: str
    answer: str | None = None
    confidence: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"the weight of {self.voter!r} is {self.weight}; it must be a number above 0")
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise ValueError(f"the confidence of {self.voter!r} is {self.confidence}; it must lie in 0..1")


@dataclass(frozen=True)
class Poll:
    """The ballots that count: the readable ones, or all that say something when none is readable.

    `answers` are canonical and `masses` what each ballot counts, both in the order of `ballots`.
    """

    ballots: tuple[Ballot, ...]
    answers: tuple[str | None, ...]
    masses: tuple[float, ...]
    abstained: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ballots)

    @cached_property
    def groups(self) -> Mapping[str, tuple[int, ...]]:
        """Each answer and who gave it, as positions in `ballots`."""
        found: dict[str, tuple[int, ...]] = {}
        for at, answer in enumerate(self.answers):
            if answer is not None:
                found[answer] = (*found.get(answer, ()), at)
        return found

    @cached_property
    def shares(self) -> Mapping[str, float]:
        """Each answer's share, in 0..1, of the mass that could be read.

        The sums are exact, so that the order of the ballots cannot matter.
        """
        total = math.fsum(mass for mass, answer in zip(self.masses, self.answers, strict=True) if answer is not None)
        return {answer: math.fsum(self.masses[at] for at in members) / total for answer, members in self.groups.items()}

    @property
    def supports(self) -> tuple[Support, ...]:
        """The answers, the best supported first."""
        return tuple(
            Support(answer=answer, agents=tuple(self.ballots[at].voter for at in self.groups[answer]), share=share)
            for answer, share in sorted(self.shares.items(), key=lambda item: -item[1])
        )


def count(ballots: Sequence[Ballot], kind: Kind, *, by_confidence: bool = False) -> Poll:
    """Drop what says nothing, set abstentions aside, and weigh the rest: weight, times confidence if that is asked."""
    answers = _read(ballots, kind)
    empty = [at for at, ballot in enumerate(ballots) if answers[at] is None and not ballot.text.strip()]
    refused = [at for at in range(len(ballots)) if _is_refusal(ballots[at].text, answers[at], kind)]
    silent = {*empty, *refused} if len(empty) + len(refused) < len(ballots) else {*empty}
    spoken = [at for at in range(len(ballots)) if at not in silent]
    counted = [at for at in spoken if answers[at] is not None] or spoken
    kept = tuple(ballots[at] for at in counted)
    masses, notes = _masses(kept, by_confidence=by_confidence)
    for reason, dropped in (("empty", empty), ("refusals", [at for at in refused if at in silent])):
        if dropped:
            notes = (*notes, f"dropped before the vote ({reason}): {', '.join(ballots[at].voter for at in dropped)}")
    return Poll(
        ballots=kept,
        answers=tuple(answers[at] for at in counted),
        masses=masses,
        abstained=tuple(ballot.voter for at, ballot in enumerate(ballots) if at in silent or answers[at] is None),
        notes=notes,
    )


def _read(ballots: Sequence[Ballot], kind: Kind) -> list[str | None]:
    """Canonical answers; a choice keeps the spelling of its key ("a"), whose case the question alone knows."""
    answers = [None if ballot.answer is None else canonical(ballot.answer, kind) for ballot in ballots]
    if kind == "choice":
        said = [(ballot.answer or "").strip() for ballot in ballots]
        keys = {key.upper(): key for key in reversed(said)}
        return [None if answer is None else keys.get(answer, answer) for answer in answers]
    return answers


def _is_refusal(text: str, answer: str | None, kind: Kind) -> bool:
    """A short text that only says it will not answer. To an open question such a text would count as an answer."""
    unread = answer is None or kind == "open"
    return unread and len(text) <= _LONGEST_REFUSAL and _REFUSAL.match(text) is not None


def _masses(ballots: Sequence[Ballot], *, by_confidence: bool) -> tuple[tuple[float, ...], tuple[str, ...]]:
    weights = tuple(ballot.weight for ballot in ballots)
    if not by_confidence:
        return weights, ()
    known = [ballot.confidence for ballot in ballots if ballot.confidence is not None]
    usual = math.fsum(known) / len(known) if known else 1.0
    masses = tuple(ballot.weight * (usual if ballot.confidence is None else ballot.confidence) for ballot in ballots)
    if not any(masses):
        return weights, ("every confidence is 0: the ballots were counted by weight alone",)
    return masses, () if known else ("no confidence is known: the ballots were counted by weight alone",)
