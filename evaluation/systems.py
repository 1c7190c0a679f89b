"""What is compared: a system is one callable, a question in and an outcome out, be it a council or a plain baseline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import Field, JsonValue

from eot.types import Agent, Exchange, Frozen, Question, Usage, Verdict
from topologies import Council


class Outcome(Frozen):
    """What one system made of one question.

    `usage` is what it costs to answer so, whether the calls were made now or recalled. `seconds` is its critical path:
    calls that can be made at once count as the slowest of them. `support` is how sure it is, in 0..1, where it says so.
    """

    answer: str | None
    text: str
    usage: Usage = Usage()
    seconds: float = 0.0
    support: float | None = None
    exchange: Exchange | None = None
    verdict: Verdict | None = None
    details: Mapping[str, JsonValue] = Field(default_factory=dict)


Done = Mapping[str, Outcome]
"""The outcomes on the same question so far, by the name of the system: a budget is fitted to a council's."""


@dataclass(frozen=True)
class System:
    """One way to answer a question. Two systems of one name and fingerprint answer alike.

    One that `leads` is asked before those that do not: they may be fitted to what it made of the question.
    """

    name: str
    solve: Callable[[Question, Done], Awaitable[Outcome]]
    fingerprint: str = ""
    leads: bool = False

    async def __call__(self, question: Question, done: Done | None = None) -> Outcome:
        """Answer the question.

        Raises:
            eot.errors.EotError: an agent it needs did not answer, or what its budget is fitted to is missing.
        """
        return await self.solve(question, done or {})


@dataclass(frozen=True)
class Entrant:
    """A council that takes part.

    `seat` seats it for one run of a question, within its own caps; `members` are its agents in seat order,
    strongest first, without those caps, for the baselines. Both should recall what was paid before. `prints` says
    for each member what shapes its text, and `fingerprint` the same of the whole council: results under another
    one are not taken up again. `salt` is the council's, for the marks around what aggregators quote.
    """

    name: str
    seat: Callable[[Question], Awaitable[Council]]
    members: Mapping[str, Agent]
    fingerprint: str = ""
    prints: Mapping[str, str] = field(default_factory=dict)
    salt: str = ""

    @cached_property
    def strongest(self) -> Agent:
        return next(iter(self.members.values()))


@dataclass(frozen=True)
class Trial:
    """What all systems of one evaluation share, so that they share their answers too.

    `at_once` is how many questions are in work at the same time.
    """

    id: str = "eval"
    seed: int = 0
    at_once: int = 8

    def run_id(self, question: Question) -> str:
        return f"{self.id}:{question.id}"
