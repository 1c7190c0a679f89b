"""A second chance for calls that failed through no fault of ours."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from eot.errors import RateLimitedError, TransientError
from eot.types import Agent, Delta, Hear, Prompt, Reply, Usage


@dataclass(frozen=True)
class Retry:
    """Asks again after a TransientError, at most `retries` times.

    Waits with exponential backoff and full jitter (a uniform draw from 0 to `first_wait` * 2^k seconds), so that
    agents that failed together do not come back together. A Retry-After of the other side is a lower bound; one
    above `longest_wait` is not waited for, the error goes up at once. The reply's `usage.calls` counts every attempt.
    """

    agent: Agent
    retries: int = 3
    first_wait: float = 0.5
    longest_wait: float = 60.0

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        heard = False

        def listen(delta: Delta) -> None:
            nonlocal heard
            heard = True
            if hear:
                hear(delta)

        for attempt in range(self.retries + 1):
            try:
                reply = await self.agent.ask(prompt, listen)
                return reply.model_copy(update={"usage": reply.usage + Usage(calls=attempt)}) if attempt else reply
            except TransientError as fault:
                wait = self._wait(attempt, fault)
                if attempt == self.retries or wait is None:
                    raise
            await asyncio.sleep(wait)
            if hear and heard:
                hear(Delta(restart=True))
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, attempt: int, fault: TransientError) -> float | None:
        """Seconds before the next attempt; None when the other side wants more patience than we have."""
        jitter = random.uniform(0, min(self.first_wait * 2**attempt, self.longest_wait))  # noqa: S311 - no secret
        asked = fault.retry_after if isinstance(fault, RateLimitedError) else None
        if asked is None:
            return jitter
        return asked + jitter if asked <= self.longest_wait else None
