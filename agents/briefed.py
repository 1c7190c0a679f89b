"""What an agent's own settings add to each prompt: its instructions and its seed."""

from __future__ import annotations

from dataclasses import dataclass

from eot.types import Agent, Hear, Message, Prompt, Reply


@dataclass(frozen=True)
class Briefed:
    """Puts `instructions` before the prompt, as part of its system message, and adds `seed` to the run's seed.

    It stands outside a Memo, which then keys on what the model really reads.
    """

    agent: Agent
    instructions: str = ""
    seed: int | None = None

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        seed = prompt.seed if self.seed is None else (prompt.seed or 0) + self.seed
        told = {"messages": _told(prompt.messages, self.instructions), "seed": seed}
        return await self.agent.ask(prompt.model_copy(update=told), hear)


def _told(messages: tuple[Message, ...], instructions: str) -> tuple[Message, ...]:
    """One system message at most: several chat templates refuse a second one."""
    if not instructions:
        return messages
    if messages and messages[0].role == "system":
        first = Message(role="system", content=f"{instructions}\n\n{messages[0].content}")
        return first, *messages[1:]
    return Message(role="system", content=instructions), *messages
