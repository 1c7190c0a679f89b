"""An agent that is asked what was typed, and not the prompt that a council makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eot.types import Agent, Hear, Message, Prompt, Reply, ToolCall


@dataclass(frozen=True)
class Verbatim:
    """Puts `messages` in the place of every prompt's. For one agent alone, whom a user talks to directly.

    `options` go along: the tools that it may call, above all. What it calls is told at the end of its text too, since
    a vote, a log and whoever reads on know texts alone.
    """

    agent: Agent
    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        asked = prompt.model_copy(update={"messages": self.messages, "options": self.options})
        reply = await self.agent.ask(asked, hear)
        return reply.model_copy(update={"text": reply.text + in_words(reply.tool_calls)}) if reply.tool_calls else reply


def in_words(calls: Iterable[ToolCall]) -> str:
    """Tool calls as they stand at the end of a text."""
    return "".join(f"\n[called the tool {call.name}({call.arguments})]" for call in calls)
