"""A second chance for a reply in the wrong form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eot.errors import CallError
from eot.types import Agent, Delta, Hear, Message, Prompt, Reply, Usage


@dataclass(frozen=True)
class Mended:
    """Tells the agent once what is wrong with its reply. `fault` says so, or "" when nothing is.

    What comes back then counts, right or wrong; a second call that fails leaves the first reply.
    """

    agent: Agent
    fault: Callable[[str], str]

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        first = await self.agent.ask(prompt, hear)
        if not (wrong := self.fault(first.text)):
            return first
        again = (
            f"That cannot be used: {wrong}. Write it again, the whole of it and nothing else, in the form asked for."
        )
        messages = (
            *prompt.messages,
            Message(role="assistant", content=first.text),
            Message(role="user", content=again),
        )
        if hear:
            hear(Delta(restart=True))
        try:
            second = await self.agent.ask(prompt.model_copy(update={"messages": messages}), hear)
        except CallError as lost:
            if hear:
                hear(Delta(text=first.text, restart=True))
            return first.model_copy(update={"usage": first.usage + Usage(calls=lost.calls)})
        spent = {"usage": first.usage + second.usage, "seconds": first.seconds + second.seconds}
        return second.model_copy(update=spent)
