"""What the exchange did to a council's answers: mended, broke, left; how long it took, and who won."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from eot.types import Frozen
from evaluation.systems import Outcome


class Case(Frozen):
    """One question by its id: what round 0's vote said, and what the verdict says."""

    question: str
    before: str | None
    after: str | None


class Winner(Frozen):
    """Shares in 0..1 of the verdicts: in which this member's text spoke, and in which its answer was the verdict's."""

    spoke: float
    agreed: float


class Exchanged(Frozen):
    """One council's verdicts beside the votes over its first answers.

    Mended: wrong before, right after. Broken: right before, wrong after. Left: wrong before and after. `kept` counts
    what was right before and after. `rounds` counts questions by exchange rounds played, `stops` by the rule that
    fired.
    """

    council: str
    mended: tuple[Case, ...]
    broken: tuple[Case, ...]
    left: tuple[Case, ...]
    kept: int
    rounds: Mapping[int, int]
    stops: Mapping[str, int]
    winners: Mapping[str, Winner]


class Seen(Frozen):
    """What is kept of one outcome while a report is made."""

    answer: str | None
    correct: bool | None
    rounds: int = 0
    stop: str = ""
    speaker: str = ""
    agreed: tuple[str, ...] = ()
    seats: tuple[str, ...] = ()

    @classmethod
    def of(cls, outcome: Outcome, correct: bool | None) -> Seen:  # noqa: FBT001 - a grade, not a flag
        exchange, verdict = outcome.exchange, outcome.verdict
        if exchange is None or verdict is None:
            return cls(answer=outcome.answer, correct=correct)
        return cls(
            answer=outcome.answer,
            correct=correct,
            rounds=len(exchange.rounds) - 1,
            stop=exchange.stop.rule if exchange.stop else "",
            speaker=verdict.agent,
            agreed=tuple(
                agent for support in verdict.supports if support.answer == verdict.answer for agent in support.agents
            ),
            seats=exchange.seats,
        )


def exchanged(council: str, after: Mapping[str, Seen], before: Mapping[str, Seen]) -> Exchanged:
    """Compare verdicts with the votes over round 0, each by question id; a question without both grades is left out."""
    both = {
        question: (before[question], verdict)
        for question, verdict in after.items()
        if question in before and verdict.correct is not None and before[question].correct is not None
    }

    def cases(*, was: bool, now: bool) -> tuple[Case, ...]:
        return tuple(
            Case(question=question, before=first.answer, after=last.answer)
            for question, (first, last) in both.items()
            if (first.correct, last.correct) == (was, now)
        )

    return Exchanged(
        council=council,
        mended=cases(was=False, now=True),
        broken=cases(was=True, now=False),
        left=cases(was=False, now=False),
        kept=len(cases(was=True, now=True)),
        rounds=dict(sorted(Counter(seen.rounds for seen in after.values()).items())),
        stops=dict(Counter(seen.stop for seen in after.values()).most_common()),
        winners=_winners(list(after.values())),
    )


def _winners(seen: Iterable[Seen]) -> dict[str, Winner]:
    seen = list(seen)
    seats = dict.fromkeys(seat for one in seen for seat in one.seats)
    return {
        seat: Winner(
            spoke=sum(one.speaker == seat for one in seen) / len(seen),
            agreed=sum(seat in one.agreed for one in seen) / len(seen),
        )
        for seat in seats
    }
