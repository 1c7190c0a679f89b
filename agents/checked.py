"""What an agent may hand on: some text, not without end, and nothing in it that cannot be printed or kept."""

from __future__ import annotations

from dataclasses import dataclass

from eot.errors import EmptyReplyError, OversizedReplyError
from eot.text import clean
from eot.types import Agent, Delta, Hear, Prompt, Reply, ToolCall

MAX_REPLY_CHARACTERS = 400_000
"""About 100,000 tokens: more than any of today's models writes in one reply unless something is wrong."""


@dataclass(frozen=True)
class Checked:
    """Refuses blank and endless replies, and cleans the others (`eot.text.clean`), pieces and whole alike.

    An agent that streams is stopped in mid-reply: what `hear` raises ends its `ask`.
    """

    agent: Agent
    max_characters: int = MAX_REPLY_CHARACTERS

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer with usable text.

        Raises:
            EmptyReplyError: nothing was written but blanks.
            OversizedReplyError: more than `max_characters` were written.
        """
        heard = 0

        def listen(delta: Delta) -> None:
            nonlocal heard
            heard = (0 if delta.restart else heard) + len(delta.text)
            self._refuse_if_over(heard)
            if hear:
                shown = clean(delta.text)
                hear(delta if shown == delta.text else delta.model_copy(update={"text": shown}))

        reply = await self.agent.ask(prompt, listen)
        self._refuse_if_over(len(reply.text))
        text = clean(reply.text)
        calls = tuple(_cleaned(call) for call in reply.tool_calls)
        if not text.strip() and not calls:
            raise EmptyReplyError(f"{self.name} answered nothing")
        return reply.model_copy(update={"text": text, "tool_calls": calls})

    def _refuse_if_over(self, size: int) -> None:
        if size > self.max_characters:
            raise OversizedReplyError(f"{self.name} wrote more than {self.max_characters:,} characters; it was cut off")


def _cleaned(call: ToolCall) -> ToolCall:
    return ToolCall(id=clean(call.id), name=clean(call.name), arguments=clean(call.arguments))
