"""The caps of one run, shared by all its agents."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from eot.errors import BudgetSpentError
from eot.settings import BudgetSettings
from eot.types import Agent, Hear, Prompt, Reply, Usage


class Budget:
    """What one run may spend and has spent. One object for all agents of the run.

    Every call is reserved before it is made, so that agents asked in parallel cannot pass the cap on calls. Tokens
    and dollars are known only afterwards: no call begins once their cap is reached, and the calls then under way may
    pass it. A failed call counts as one. Seconds run from the making of this object; a call under way is ended.
    """

    def __init__(self, caps: BudgetSettings) -> None:
        self.caps = caps
        self.spent = Usage()
        self._under_way = 0
        self._started = time.monotonic()

    @property
    def seconds_left(self) -> float | None:
        if self.caps.seconds is None:
            return None
        return max(0.0, self.caps.seconds - (time.monotonic() - self._started))

    def exhausted(self) -> str:
        """The cap that is reached, in words, or "" when another call may begin."""
        calls = self.spent.calls + self._under_way
        if self.caps.calls is not None and calls >= self.caps.calls:
            return f"{self.caps.calls:,} calls"
        if self.caps.tokens is not None and self.spent.tokens >= self.caps.tokens:
            return f"{self.caps.tokens:,} tokens"
        if self.caps.usd is not None and (self.spent.cost_usd is None or self.spent.cost_usd >= self.caps.usd):
            unknown = " (a call of unknown price was made)" if self.spent.cost_usd is None else ""
            return f"{self.caps.usd:g} US dollars{unknown}"
        return f"{self.caps.seconds:g} seconds" if self.seconds_left == 0 else ""

    def reserve(self, who: str) -> None:
        """Take one call out of the budget before it is made.

        Raises:
            BudgetSpentError: a cap is reached.
        """
        if cap := self.exhausted():
            raise BudgetSpentError(f"{who} was not asked: the run's cap of {cap} is reached")
        self._under_way += 1

    def settle(self, usage: Usage) -> None:
        """Put what a reserved call really spent in the place of its reservation."""
        self._under_way -= 1
        self.spent += usage


@dataclass(frozen=True)
class Budgeted:
    """Asks only within the run's budget.

    A recalled reply counts with what it cost when it was paid: the caps hold for a run, however often it was
    started again.
    """

    agent: Agent
    budget: Budget

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer within the budget.

        Raises:
            BudgetSpentError: a cap is reached, or the run's seconds ran out during the call.
        """
        self.budget.reserve(self.name)
        spent = Usage(calls=1)
        try:
            reply = await self._in_time(prompt, hear)
            spent = reply.usage
        finally:
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
