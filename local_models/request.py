"""One request to a torch engine on its way: written by the decoding thread, read on the event loop.

A token is whatever the decoding loop deals in: an id of the model's vocabulary, or the bytes of a piece of text.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from eot.errors import CallError
from local_models.engine import Finish, Generation, Hear, Sampling, TokenLogprob, Trace
from local_models.text_stream import TextStream

Token = TypeVar("Token")


class Request(Generic[Token]):
    """Collects the tokens of one reply, at most `limit`, and passes their text on as it becomes certain."""

    def __init__(
        self, sampling: Sampling, limit: int, decode: Callable[[list[Token]], str], *, input_tokens: int
    ) -> None:
        self.sampling = sampling
        self._limit, self._input_tokens = limit, input_tokens
        self._stream = TextStream(decode, sampling.stop)
        self._logprobs: list[TokenLogprob] = []
        self._notes: dict[str, None] = {}
        self._began = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[tuple[str, TokenLogprob | None] | Generation | CallError] = asyncio.Queue()
        self._dropped = threading.Event()

    def wanted(self) -> bool:
        return not self._dropped.is_set()

    def fail(self, fault: CallError) -> None:
        """End with an error; from any thread."""
        self._dropped.set()
        self._loop.call_soon_threadsafe(self._news.put_nowait, fault)

    def note(self, remark: str) -> None:
        """Something that whoever reads the reply should know; said once."""
        self._notes[remark] = None

    def take(self, token: Token, told: TokenLogprob | None = None, *, ended: bool = False) -> bool:
        """Take one token, in the decoding thread; return whether to go on. An `ended` one ends the reply: no text."""
        if told:
            self._logprobs.append(told)
        if ended:
            self._say("", told)
            return self._end("stop", extra=1)
        self._say(self._stream.add(token), told)
        if self._stream.stopped:
            return self._end("stop")
        return len(self._stream.tokens) < self._limit or self._end("length")

    def cut(self) -> None:
        """There is no room for another token."""
        self._end("length")

    async def told(self, hear: Hear | None = None, trace: Trace | None = None) -> Generation:
        """Pass the text on as it comes; return the whole. Whoever stops waiting drops the request."""
        try:
            while True:
                news = await self._news.get()
                if isinstance(news, Generation):
                    return news
                if isinstance(news, CallError):
                    raise news
                piece, told = news
                if trace:
                    trace(piece, told)
                if hear and piece:
                    hear(piece)
        finally:
            self._dropped.set()

    def _end(self, finish: Finish, extra: int = 0) -> bool:
        self._say(self._stream.end())
        result = Generation(
            text=self._stream.text,
            input_tokens=self._input_tokens,
            output_tokens=len(self._stream.tokens) + extra,  # the end token was generated too
            finish=finish,
            seconds=time.perf_counter() - self._began,
            logprobs=tuple(self._logprobs) or None,
            notes=tuple(self._notes),
        )
        self._loop.call_soon_threadsafe(self._news.put_nowait, result)
        return False

    def _say(self, piece: str, told: TokenLogprob | None = None) -> None:
        if piece or told:
            self._loop.call_soon_threadsafe(self._news.put_nowait, (piece, told))
