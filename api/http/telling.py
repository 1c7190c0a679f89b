"""How a run is told while it goes on: its progress as reasoning, its answer as text, in whatever protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.verbatim import in_words
from api.progress import STILL, progress
from api.runs import Run
from eot.errors import TransientError
from eot.events import Event, Token
from eot.settings import Progress
from eot.types import Finish, Result, ToolCall

Delta = dict[str, Any]
"""What is added: {"content": text}, or {"reasoning_content": text} as the setting has it."""


@dataclass
class Telling:
    """How far one choice has been told."""

    run: Run
    shown: Progress
    stops: Sequence[str]
    said: str = ""
    thinking: bool = False
    broken: bool = field(default=False)
    """A retry began the text anew after some of it was out."""

    @property
    def _live(self) -> bool:
        """Whether the pieces of the agent's text are pieces of the answer."""
        return bool(self.run.ask.verbatim) and not self.stops and not self.broken

    def tell(self, event: Event) -> Iterator[Delta]:
        """What this event adds."""
        if self._live and isinstance(event, Token):
            yield from self._piece(event)
        elif text := "" if self.run.ask.verbatim else progress(event):
            yield self._work(text)

    def still(self) -> Delta:
        """What is said when nothing was to be said for a while."""
        return self._work(STILL)

    def end(self, result: Result) -> Iterator[Delta]:
        """What is still to be said when the run is over."""
        text, _ = final(result, self.stops)
        if not text.startswith(self.said):
            raise TransientError("the agent broke off and began anew with another text; ask again")
        rest = text[len(self.said) :]
        yield {"content": f"</think>\n\n{rest}" if self.thinking else rest}

    def _piece(self, event: Token) -> Iterator[Delta]:
        if event.restart and self.said:
            self.broken = True
        elif event.text:
            self.said += event.text
            yield {"content": event.text}

    def _work(self, text: str) -> Delta:
        if self.shown == "off" or (self.shown == "think" and self.said):
            return {"content": ""}
        if self.shown != "think":
            return {self.shown: text}
        opening = "" if self.thinking else "<think>\n"
        self.thinking = True
        return {"content": opening + text}


def called(result: Result) -> tuple[ToolCall, ...]:
    """The tools that the answer asks for."""
    said = result.exchange.latest.get(result.verdict.agent)
    return said.tool_calls if said else ()


def final(result: Result, stops: Iterable[str]) -> tuple[str, Finish]:
    """The text that is the answer, cut at the first of `stops`, and why it ends there."""
    said = result.exchange.latest.get(result.verdict.agent)
    whole = result.verdict.text.removesuffix(in_words(called(result)))
    ends = [at for at in map(whole.find, stops) if at >= 0]
    if ends:
        return whole[: min(ends)], "stop"
    return whole, said.finish if said else "stop"
