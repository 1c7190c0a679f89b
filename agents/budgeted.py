"""A turn, and each attempt in it, within the run's budget: two wrappers, with the memo and the retries between them."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass

from agents.budget import Budget
from eot.errors import BudgetSpentError, CallError
from eot.types import Agent, Hear, Prompt, Reply, Usage


@dataclass
class _Turn:
    """A turn under way: the calls that were made, and whether the place reserved for the first is still its own."""

    has_place: bool = True
    calls: int = 0


_turn: ContextVar[_Turn | None] = ContextVar("turn", default=None)  # what the inner wrapper knows of the outer one


@dataclass(frozen=True)
class Budgeted:
    """Begins a turn only within the run's budget, and ends it when the run's seconds are over.

    It holds a place for one call until the first attempt takes it over (Metered, inside). A turn that makes no
    attempt keeps the place: a recalled reply counts with what it cost when it was paid, so that the caps hold for a
    run however often it was started again. An error that leaves here says how many calls the turn made.
    """

    agent: Agent
    budget: Budget

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer within the budget.

        Raises:
            BudgetSpentError: a cap is reached, or the run's seconds ran out during the turn.
        """
        self.budget.reserve(self.name)
        turn, spent = _Turn(), Usage(calls=1)
        outer = _turn.set(turn)
        try:
            reply = await self._in_time(prompt, hear)
            spent = reply.usage
        except CallError as fault:
            fault.calls = spent.calls if turn.has_place else turn.calls
            raise
        finally:
            _turn.reset(outer)
            if turn.has_place:
                self.budget.settle(spent)
        return reply

    async def _in_time(self, prompt: Prompt, hear: Hear | None) -> Reply:
        try:
            async with asyncio.timeout(self.budget.seconds_left) as scope:
                return await self.agent.ask(prompt, hear)
        except TimeoutError:
            if not scope.expired():  # somebody else's timeout, inside the agent
                raise
        raise BudgetSpentError(f"{self.name} was cut off: the run's {self.budget.caps.seconds:g} seconds are over")


@dataclass(frozen=True)
class Metered:
    """Reserves each attempt before it is made and counts it however it ends. It stands inside a Retry."""

    agent: Agent
    budget: Budget

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer, if one more call is within the budget.

        Raises:
            BudgetSpentError: a cap is reached.
        """
        turn = _turn.get() or _Turn(has_place=False)
        if turn.has_place:  # given back and taken at once: nobody comes in between, since nothing is awaited
            turn.has_place = False
            self.budget.settle(Usage())
        self.budget.reserve(self.name, again=turn.calls > 0)
        turn.calls += 1
        spent = Usage(calls=1)
        try:
            reply = await self.agent.ask(prompt, hear)
            spent = reply.usage
        finally:
            self.budget.settle(spent)
        return reply
