"""An agent that is asked what was typed, and not the prompt that a council makes of it."""

from __future__ import annotations

from dataclasses import dataclass

from eot.types import Agent, Hear, Message, Prompt, Reply


@dataclass(frozen=True)
class Verbatim:
    """Puts `messages` in the place of every prompt's. For one agent alone, whom a user talks to directly."""

    agent: Agent
    messages: tuple[Message, ...]

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        return await self.agent.ask(prompt.model_copy(update={"messages": self.messages}), hear)
