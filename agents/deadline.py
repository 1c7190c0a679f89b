"""A deadline around an agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from eot.errors import DeadlineError
from eot.types import Agent, Hear, Prompt, Reply


@dataclass(frozen=True)
class Deadline:
    """Cancels the call after `seconds`. Around a Retry it covers all attempts and the waits between them."""

    agent: Agent
    seconds: float

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer in time.

        Raises:
            DeadlineError: no answer within `seconds`.
        """
        try:
            async with asyncio.timeout(self.seconds) as scope:
                return await self.agent.ask(prompt, hear)
        except TimeoutError:
            if not scope.expired():  # somebody else's timeout, inside the agent
                raise
        raise DeadlineError(f"{self.name} did not answer within {self.seconds:g} s")
