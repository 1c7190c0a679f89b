"""From rows to a report: what each system got right and spent, who beat whom, and what the exchange did.

Failures are counted, not graded: a model that died says nothing about the method, and the next run asks again. An
answer that could not be read is graded, as wrong. Two systems are compared on the questions both have a grade for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from eot.types import Frozen, Usage
from evaluation.exchanged import Exchanged, Seen, exchanged
from evaluation.learning import Learnt
from evaluation.results import Row
from evaluation.statistics import Calibration, Interval, McNemar, accuracy, calibration, difference, mcnemar

HINDSIGHT = "best-single"
"""The line of the single agent that turned out best. Nobody knows who that is before the questions are graded."""


class Score(Frozen):
    """One system over all questions. Calls, tokens and seconds are means a question; dollars a sum, None if unknown.

    `accuracy` (in 0..1, with its 95 % bootstrap interval) is over the `graded` questions, None when there is none.
    `hindsight` names the system that this line repeats, chosen by its accuracy on these very questions.
    """

    system: str
    answered: int
    failed: int
    graded: int
    right: int
    accuracy: Interval | None
    calls: float
    input_tokens: float
    output_tokens: float
    cost_usd: float | None
    seconds: float
    calibration: Calibration | None = None
    hindsight: str = ""

    @property
    def tokens(self) -> float:
        return self.input_tokens + self.output_tokens


class Comparison(Frozen):
    """A system beside a baseline on the same questions: difference in accuracy (95 % bootstrap) and exact McNemar."""

    system: str
    baseline: str
    questions: int
    difference: Interval
    test: McNemar


class Report(Frozen):
    """Everything that was found, as `--json` prints it. `ended` is the cap that ended the run early, or "".

    `learnt` is what the first answers say of the members; None where there were none to closed questions.
    """

    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    exchanges: tuple[Exchanged, ...]
    notes: tuple[str, ...] = ()
    ended: str = ""
    learnt: Learnt | None = None

    def score(self, system: str) -> Score:
        return next(score for score in self.scores if score.system == system)


@dataclass
class _Tally:
    """What is kept of one system's rows while they are read."""

    grades: dict[str, bool] = field(default_factory=dict)
    sure: dict[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    over: int = 0
    recorded: dict[str, Seen] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        if row.outcome is None:
            self.failures[row.failure] += 1
            return
        outcome = row.outcome
        self.answered += 1
        self.usage += outcome.usage
        self.seconds += outcome.seconds
        self.over += bool(outcome.details.get("over"))
        if row.correct is not None:
            self.grades[row.question] = row.correct
            if outcome.support is not None:
                self.sure[row.question] = min(1.0, outcome.support)
        if row.system.startswith(("council:", "round0:")):
            self.recorded[row.question] = Seen.of(outcome, row.correct)


def summarise(rows: Iterable[Row], *, ended: str = "") -> Report:
    """The report on these rows, systems in the order they first appear. One pass; no row is held."""
    tallies: dict[str, _Tally] = {}
    for row in rows:
        tallies.setdefault(row.system, _Tally()).add(row)
    best = _best_single(tallies)
    if best:
        tallies[HINDSIGHT] = tallies[best]
    scores = [_score(name, tally, best if name == HINDSIGHT else "") for name, tally in tallies.items()]
    return Report(
        scores=tuple(scores),
        comparisons=tuple(_comparisons(tallies, best)),
        exchanges=tuple(_exchanges(tallies)),
        notes=tuple(_notes(tallies, best)),
        ended=ended,
    )


def _best_single(tallies: Mapping[str, _Tally]) -> str:
    """The single agent of the highest accuracy; the first of equals; "" when none was graded."""
    shares = {
        name: sum(tally.grades.values()) / len(tally.grades)
        for name, tally in tallies.items()
        if name.startswith("single:") and tally.grades
    }
    return max(shares, key=lambda name: shares[name], default="")


def _score(name: str, tally: _Tally, hindsight: str) -> Score:
    grades, each = list(tally.grades.values()), max(1, tally.answered)
    return Score(
        system=name,
        answered=tally.answered,
        failed=tally.failures.total(),
        graded=len(grades),
        right=sum(grades),
        accuracy=accuracy(grades) if grades else None,
        calls=tally.usage.calls / each,
        input_tokens=tally.usage.input_tokens / each,
        output_tokens=tally.usage.output_tokens / each,
        cost_usd=tally.usage.cost_usd,
        seconds=tally.seconds / each,
        calibration=_calibration(tally),
        hindsight=hindsight,
    )


def _calibration(tally: _Tally) -> Calibration | None:
    if not tally.sure:
        return None
    return calibration(list(tally.sure.values()), [tally.grades[question] for question in tally.sure])


def _comparisons(tallies: Mapping[str, _Tally], best: str) -> Iterator[Comparison]:
    """Every system with every baseline, a baseline being whatever is no council; nobody with itself."""
    for system, ours in tallies.items():
        for baseline, theirs in tallies.items():
            same = system == baseline or {system, baseline} == {HINDSIGHT, best}
            both = [question for question in ours.grades if question in theirs.grades]
            if baseline.startswith("council:") or same or not both:
                continue
            a, b = ([tally.grades[question] for question in both] for tally in (ours, theirs))
            yield Comparison(
                system=system,
                baseline=baseline,
                questions=len(both),
                difference=difference(a, b),
                test=mcnemar(a, b),
            )


def _exchanges(tallies: Mapping[str, _Tally]) -> Iterator[Exchanged]:
    for name, tally in tallies.items():
        council = name.removeprefix("council:")
        if council != name:
            before = tallies.get(f"round0:{council}")
            yield exchanged(council, tally.recorded, before.recorded if before else {})


def _notes(tallies: Mapping[str, _Tally], best: str) -> Iterator[str]:
    if best:
        yield f"{HINDSIGHT} is {best}, chosen by its accuracy on these very questions: a bound, not a method"
    for name, tally in tallies.items():
        if tally.over and name != HINDSIGHT:
            yield f"{name}: on {tally.over} questions one sample alone is over the council's tokens"
        for why, count in tally.failures.most_common(3):
            if name != HINDSIGHT:
                yield f"{name}: {count} failed: {why}"
        if tally.answered and tally.usage.cost_usd is None:
            yield f"{name}: its cost is unknown, because the price of a call is"
