"""An agent that says what it was told to say: for demonstrations, for tests, and for rehearsing failures."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import Never

from eot.errors import InputError, TransientError
from eot.types import Delta, Hear, Prompt, Reply, Usage

Line = str | Callable[[Prompt], str]
"""What is said in one round: a text, or a function of the prompt (it may raise a CallError, or write to a file)."""

FLOOD_CHARACTERS = 10_000_000

_WORD = re.compile(r"\s*\S+\s*?|\s+")


class ScriptedAgent:
    """Says `script[prompt.round]`; past its end the last line is repeated. Streams word by word.

    Four lines are acts instead of texts: `!fail` raises a TransientError, `!hang` never answers, `!empty` answers
    nothing, `!flood` writes ten million characters. Its tokens are words, and they cost nothing.
    """

    def __init__(self, name: str, script: Sequence[Line], delay: float = 0.0, words_a_piece: int = 1) -> None:
        """`delay` is seconds before the first word.

        Raises:
            InputError: the script is empty.
        """
        if not script:
            raise InputError(f"the scripted agent {name!r} has nothing to say: give it a script of one text or more")
        self.name = name
        self._script, self._delay, self._words_a_piece = tuple(script), delay, words_a_piece

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        started = time.perf_counter()
        await asyncio.sleep(self._delay)
        line = self._script[min(prompt.round, len(self._script) - 1)]
        text = line if isinstance(line, str) else line(prompt)
        if text in _ACTS:
            text = await _ACTS[text](hear)
        elif hear:
            for piece in self._pieces(text):
                hear(Delta(text=piece))
        spent = Usage(calls=1, input_tokens=_words(prompt), output_tokens=len(text.split()), cost_usd=0.0)
        return Reply(text=text, usage=spent, seconds=time.perf_counter() - started)

    def _pieces(self, text: str) -> list[str]:
        words, size = _WORD.findall(text), self._words_a_piece
        return ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _words(prompt: Prompt) -> int:
    return sum(len(message.content.split()) for message in prompt.messages)


async def _fail(_: Hear | None) -> Never:
    raise TransientError("a scripted failure")


async def _hang(_: Hear | None) -> str:
    await asyncio.Event().wait()
    return ""


async def _empty(_: Hear | None) -> str:
    return ""


async def _flood(hear: Hear | None) -> str:
    piece = "word " * 2_000
    count = FLOOD_CHARACTERS // len(piece)
    for _ in range(count):
        if hear:
            hear(Delta(text=piece))
        await asyncio.sleep(0)  # others must stay able to run, and to cancel this
    return piece * count


_ACTS = {"!fail": _fail, "!hang": _hang, "!empty": _empty, "!flood": _flood}
