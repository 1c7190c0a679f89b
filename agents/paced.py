"""No faster than the provider allows, all workers together: the bucket that is taken from lies in the shared store."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from eot.types import Agent, Hear, Prompt, Reply

_log = logging.getLogger(__name__)

_CHARACTERS_A_TOKEN = 4


class Level(Protocol):
    @property
    def wait(self) -> float: ...


class Buckets(Protocol):
    async def take(self, key: str, amount: float, per_minute: float, *, force: bool = False) -> Level:
        """Take from the bucket of that name, which holds `per_minute`; the level says how long to sleep."""
        ...


@dataclass(frozen=True)
class Paced:
    """Waits for its turn before it asks, outside the agent's deadline.

    A call takes one request and as many tokens as it may come to; what it did not use is given back, what retries
    used besides is taken. Buckets that cannot be reached hold nobody up.
    """

    agent: Agent
    buckets: Buckets
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_tokens: int = 0

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        read = sum(len(message.content) for message in prompt.messages) // _CHARACTERS_A_TOKEN
        reckoned = read + self.max_tokens
        await asyncio.sleep(await self._take(1, reckoned))
        reply = await self.agent.ask(prompt, hear)
        await self._take(reply.usage.calls - 1, reply.usage.tokens - reckoned)
        return reply

    async def _take(self, requests: float, tokens: float) -> float:
        """Seconds to sleep for what was taken."""
        waits = [0.0]
        for what, amount, rate in (
            ("requests", requests, self.requests_per_minute),
            ("tokens", tokens, self.tokens_per_minute),
        ):
            if rate is not None and amount:
                try:
                    level = await self.buckets.take(f"agent:{self.name}:{what}", amount, rate, force=True)
                except Exception as fault:  # noqa: BLE001 - whatever keeps the store from it
                    _log.warning("the pace of %s cannot be kept: %s", self.name, type(fault).__name__)
                else:
                    waits.append(level.wait)
        return max(waits)
