"""One recorded question, voted on in every way that needs no other question."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eot.types import Kind, Verdict
from evaluation.grading import is_right
from evaluation.weights import Answered
from scoring import AnswerRow, Ballot, Embed, vote


@dataclass(frozen=True, slots=True)
class Heard:
    """What one row leaves behind: no texts, so that 100,000 rows fit in memory.

    `speaker` and `support` are those of the default vote. `scores` holds, by system, how right it was, in 0..1; it is
    empty without a gold. `right_answers` are those among the given ones.
    """

    kind: Kind
    voters: tuple[str, ...]
    answered: Answered
    right_answers: frozenset[str]
    speaker: str
    support: float
    scores: Mapping[str, float]

    @property
    def labelled(self) -> bool:
        return self.answered.right is not None


def hear(row: AnswerRow, voters: Sequence[str] = (), embed: Embed | None = None) -> Heard:
    """Vote on one row and score the votes. `voters` names who takes part, in order of priority; all by default."""
    ballots = [_closed(ballot, row.kind) for ballot in _chosen(row.ballots, voters)]
    right = _right(row, ballots)
    verdict = _verdict(ballots, row.kind, "auto", embed)
    answers = {ballot.voter: ballot.answer for ballot in ballots if ballot.answer is not None}
    options = len(row.choices) if row.kind == "choice" else 2 if row.kind == "yesno" else 0
    return Heard(
        kind=row.kind,
        voters=tuple(ballot.voter for ballot in ballots),
        answered=Answered(answers, right, options or None),
        right_answers=frozenset(answers[voter] for voter in right or () if voter in answers),
        speaker=verdict.agent if verdict else "",
        support=verdict.support if verdict else 0.0,
        scores={} if right is None else _scores(row, ballots, verdict, embed),
    )


def _chosen(ballots: Sequence[Ballot], voters: Sequence[str]) -> list[Ballot]:
    """The ballots of those who take part, in their order; a name that comes again in one row becomes NAME#2."""
    order = {name: at for at, name in enumerate(voters)}
    kept = sorted(
        (ballot for ballot in ballots if not order or ballot.voter in order),
        key=lambda ballot: order.get(ballot.voter, 0),
    )
    times: Counter[str] = Counter()
    named = []
    for ballot in kept:
        times[ballot.voter] += 1
        again = times[ballot.voter]
        name = ballot.voter if again == 1 else f"{ballot.voter}#{again}"
        named.append(replace(ballot, voter=sys.intern(name)))  # JSON makes a new string of the same name in each row
    return named


def _closed(ballot: Ballot, kind: Kind) -> Ballot:
    """The text that is voted on: what the voter wrote, closed with its recorded answer where there is one to close."""
    if kind == "open" or ballot.answer is None or not ballot.text.strip():
        return ballot
    return replace(ballot, text=f"{ballot.text}\nThe answer is {ballot.answer}.")


def _right(row: AnswerRow, ballots: Sequence[Ballot]) -> frozenset[str] | None:
    gold = row.gold
    if gold is None:
        return None
    return frozenset(b.voter for b in ballots if is_right(b.answer, gold, row.kind, row.choices, b.text))


def _scores(
    row: AnswerRow, ballots: Sequence[Ballot], counted: Verdict | None, embed: Embed | None
) -> dict[str, float]:
    scores = {"majority_by_chance": _by_chance(row, counted), "auto": _score(row, counted)}
    if any(ballot.text.strip() for ballot in ballots):
        total = "emb+word+char" if embed else "word+char"
        for name, method in (("word", "word_a_f"), ("char", "char_a_f"), (total, "sum")):
            scores[name] = _score(row, _verdict(ballots, row.kind, method, embed))
    return scores


def _verdict(ballots: Sequence[Ballot], kind: Kind, method: str, embed: Embed | None) -> Verdict | None:
    if not any(ballot.answer is not None or ballot.text.strip() for ballot in ballots):
        return None
    return vote(ballots, method=method, kind=kind, embed=embed)


def _score(row: AnswerRow, verdict: Verdict | None) -> float:
    if verdict is None or row.gold is None:
        return 0.0
    return float(is_right(verdict.answer, row.gold, row.kind, row.choices, verdict.text))


def _by_chance(row: AnswerRow, verdict: Verdict | None) -> float:
    """The chance that one of the best supported answers, drawn at random, is right."""
    if verdict is None or not verdict.supports or row.gold is None:
        return 0.0
    best = verdict.supports[0].share
    tied = [support.answer for support in verdict.supports if support.share >= best - 1e-9]
    return sum(is_right(answer, row.gold, row.kind, row.choices) for answer in tied) / len(tied)
