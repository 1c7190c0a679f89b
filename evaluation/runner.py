"""Systems over questions: several questions at once, so that a local engine has something to batch.

On one question the councils go first, all at once, since budgets are fitted to them, and then all the others. An answer
that several systems need is asked once: whoever comes second waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from agents import Budget
from eot.errors import BudgetSpentError, EotError
from eot.settings import BudgetSettings
from eot.types import Frozen, Usage
from evaluation.datasets import Labelled
from evaluation.grading import grade
from evaluation.results import Results, Row
from evaluation.systems import Done, Outcome, System, Trial


class Progress(Frozen):
    """How far it is: results there and in all, failures among them, what was newly spent, seconds, seconds left."""

    done: int
    total: int
    failed: int = 0
    spent: Usage = Usage()
    seconds: float = 0.0
    eta: float | None = None


Watch = Callable[[Progress], None]
"""Is handed each step as it is made. It must neither block nor raise."""


async def run_systems(
    questions: Sequence[Labelled],
    systems: Sequence[System],
    results: Results,
    trial: Trial,
    *,
    budget: Budget | None = None,
    watch: Watch | None = None,
) -> str:
    """Ask every system every question that has no result yet; return the cap that ended it early, or "".

    A system that fails on a question leaves a row that says so, and the others go on. What was cut short by the cap
    leaves none.

    Args:
        questions: of unique ids.
        systems: those marked `leads` are asked before the others.
        results: is read for what is there, and appended to.
        trial: what the systems share, and how many questions are in work at once.
        budget: what may be newly spent; its holder must be the agents, inside their memo.
        watch: is handed the progress after every result.

    Raises:
        EotError: a result could not be written. What else was under way has come to its end.
    """
    course = _Course(systems, results, trial, budget or Budget(BudgetSettings()), watch)
    course.open = sum(not course.has(system, asked) for asked in questions for system in systems)
    course.kept = len(questions) * len(systems) - course.open
    waiting = iter(questions)
    course.tell()
    await asyncio.gather(*(course.work(waiting) for _ in range(trial.at_once)))
    if course.fault:
        raise course.fault
    return course.cap


@dataclass
class _Course:
    """What the workers of one evaluation share."""

    systems: Sequence[System]
    results: Results
    trial: Trial
    budget: Budget
    watch: Watch | None
    started: float = field(default_factory=time.monotonic)
    kept: int = 0
    open: int = 0
    made: int = 0
    failed: int = 0
    cap: str = ""
    fault: EotError | None = None

    def has(self, system: System, asked: Labelled) -> bool:
        return self.results.succeeded(system.name, asked.question.id, fingerprint(system, asked, self.trial))

    async def work(self, waiting: Iterator[Labelled]) -> None:
        for asked in waiting:
            if self.cap or self.fault:
                return
            if not all(self.has(system, asked) for system in self.systems):
                await self._one(asked)

    async def _one(self, asked: Labelled) -> None:
        done: dict[str, Outcome] = {}
        for leads in (True, False):
            turn = [system for system in self.systems if system.leads is leads]
            outcomes = await asyncio.gather(*(self._outcome(system, asked, done) for system in turn))
            done |= {system.name: outcome for system, outcome in zip(turn, outcomes, strict=True) if outcome}

    async def _outcome(self, system: System, asked: Labelled, done: Done) -> Outcome | None:
        """What the system made of it, now or in an earlier run; None when it failed, or a cap or a fault ended it."""
        printed = fingerprint(system, asked, self.trial)
        if self.has(system, asked):
            row = self.results.find(system.name, asked.question.id, printed)
        elif self.cap or self.fault:
            return None
        else:
            row = await self._solved(system, asked, printed, done)
            if row is None or not self._keep(row):
                return None
        return row.outcome if row else None

    async def _solved(self, system: System, asked: Labelled, printed: str, done: Done) -> Row | None:
        """The row of a result or a failure; None when the cap stood in the way."""
        outcome, failure = None, ""
        try:
            outcome = await system(asked.question, done)
        except Exception as fault:  # noqa: BLE001 - one question must not cost the others theirs, whatever went wrong
            failure = str(fault) if isinstance(fault, EotError) else f"{type(fault).__name__}: {fault}"
        if (outcome is None or _lost_calls(outcome)) and (cap := self.budget.exhausted()):
            self.cap = cap
            return None
        correct = grade(outcome.answer, asked, outcome.text) if outcome else None
        return Row(
            system=system.name,
            question=asked.question.id,
            fingerprint=printed,
            correct=correct,
            outcome=outcome,
            failure=failure,
        )

    def _keep(self, row: Row) -> bool:
        try:
            self.results.append(row)
        except EotError as fault:
            self.fault = fault
            return False
        self.made += 1
        self.failed += row.outcome is None
        self.tell()
        return True

    def tell(self) -> None:
        if self.watch is None:
            return
        seconds = time.monotonic() - self.started
        self.watch(
            Progress(
                done=self.kept + self.made,
                total=self.kept + self.open,
                failed=self.failed,
                spent=self.budget.spent,
                seconds=seconds,
                eta=seconds / self.made * (self.open - self.made) if self.made else None,
            )
        )


def _lost_calls(outcome: Outcome) -> bool:
    """Whether a council went on without members whom a cap had silenced."""
    silences = outcome.exchange.silences if outcome.exchange else ()
    return any(silence.reason == BudgetSpentError.reason for silence in silences)


def fingerprint(system: System, asked: Labelled, trial: Trial) -> str:
    """What a result depends on: with another system, seed, question or gold, it is not this one's."""
    said = f"{system.name}\n{system.fingerprint}\n{trial.seed}\n{asked.question.model_dump_json()}\n{asked.gold}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]
