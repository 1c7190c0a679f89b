"""Watching calls from outside: metrics and logs take the record, and the agents name neither."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from eot.errors import CallError
from eot.types import Agent, Delta, Frozen, Hear, Prompt, Reply, Usage


class CallRecord(Frozen):
    """One attempt at one call, however it ended. Times are seconds since the attempt began.

    `outcome` is "ok", a CallError's `reason`, "cancelled" or "crashed". `first_token_seconds` is None when nothing
    was heard.
    """

    agent: str
    model: str
    round: int
    outcome: str
    seconds: float
    usage: Usage = Usage()
    first_token_seconds: float | None = None
    run_id: str = ""


@dataclass(frozen=True)
class Watched:
    """Hands `watch` a record of every call. Inside a Retry it sees each attempt; it changes nothing."""

    agent: Agent
    watch: Callable[[CallRecord], None]
    model: str = ""

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        started = time.perf_counter()
        first: float | None = None
        outcome, usage = "crashed", Usage(calls=1)

        def listen(delta: Delta) -> None:
            nonlocal first
            first = first if first is not None else time.perf_counter() - started
            if hear:
                hear(delta)

        try:
            reply = await self.agent.ask(prompt, listen)
            outcome, usage = "ok", reply.usage
        except CallError as fault:
            outcome = fault.reason
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self.watch(
                CallRecord(
                    agent=self.name,
                    model=self.model,
                    round=prompt.round,
                    outcome=outcome,
                    seconds=time.perf_counter() - started,
                    usage=usage,
                    first_token_seconds=first,
                    run_id=prompt.run_id,
                )
            )
        return reply
