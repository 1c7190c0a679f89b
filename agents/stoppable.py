"""A run that its owner can stop: calls under way end, later ones do not begin, and what was said is still there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from eot.errors import StoppedError
from eot.types import Agent, Hear, Prompt, Reply


@dataclass
class Stopper:
    """What stops one run, shared by all its agents. Call `stop` in the run's event loop."""

    stopped: bool = False
    _under_way: set[asyncio.Timeout] = field(default_factory=set)

    def stop(self) -> None:
        self.stopped = True
        for scope in self._under_way:
            if not scope.expired():
                scope.reschedule(0)  # a time that is past: it ends at once


@dataclass(frozen=True)
class Stoppable:
    """Ends its agent's call when the run is stopped. It stands outside all other wrappers."""

    agent: Agent
    stopper: Stopper

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer, unless the run is stopped.

        Raises:
            StoppedError: it was, before or meanwhile.
        """
        if self.stopper.stopped:
            raise StoppedError(f"{self.name} was not asked: the run was stopped")
        try:
            async with asyncio.timeout(None) as scope:
                self.stopper._under_way.add(scope)
                return await self.agent.ask(prompt, hear)
        except TimeoutError:
            if not scope.expired():  # somebody else's timeout, inside the agent
                raise
        finally:
            self.stopper._under_way.discard(scope)
        fault = StoppedError(f"{self.name} was cut off: the run was stopped")
        fault.calls = 1
        raise fault
