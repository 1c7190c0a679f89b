"""Server-sent events: how they are written, and what ends with them when the reader goes away."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api.http.errors import ClientGoneError, as_api_error

_log = logging.getLogger(__name__)

T = TypeVar("T")

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Proxies must neither keep nor gather what is written."""


def frame(data: Mapping[str, Any] | str, *, event: str = "", number: int | None = None) -> bytes:
    """One event. Text goes as it is and must be one line; what else is JSON."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    name = f"event: {event}\n" if event else ""
    place = f"id: {number}\n" if number is not None else ""
    return f"{name}{place}data: {text}\n\n".encode()


def _ping() -> bytes:
    return PING


class EventStream(StreamingResponse):
    """Streams `frames` as they come, and closes them however the response ends, the reader's leaving included.

    What they raise, a store that is away for one, is told as a last event `error` with the envelope.

    It is never silent for more than `patience` seconds, whatever the frames wait for: then what `still` gives goes out.
    `still` is called only while the frames wait, so it may share their state.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,
        *,
        patience: float | None = None,
        still: Callable[[], bytes] = _ping,
    ) -> None:
        """FastAPI reads the status for its OpenAPI from this signature. `patience` None: the frames see to it."""
        self._frames, self._told = frames, _told(frames)
        super().__init__(self._told, status_code=status_code, headers={**_HEADERS, **(headers or {})})
        self._patience, self._still = patience, still
        self._sending, self._sent = False, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._told.aclose()
            await self._frames.aclose()

    async def stream_response(self, send: Send) -> None:
        async def noting(message: Message) -> None:
            self._sending = True
            await send(message)
            self._sending, self._sent = False, time.monotonic()

        beating = asyncio.create_task(self._beat(noting)) if self._patience else None
        try:
            await super().stream_response(noting)
        finally:
            if beating:
                beating.cancel()

    async def _beat(self, send: Send) -> None:
        """Not a timeout around each frame, which would cost every piece of every text a task of its own."""
        assert self._patience is not None
        self._sent = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, self._sent + self._patience - time.monotonic()))
            if self._sending:  # the reader is slow, and the line not silent
                self._sent = time.monotonic()
            elif time.monotonic() - self._sent >= self._patience:
                await send({"type": "http.response.body", "body": self._still(), "more_body": True})


async def _told(frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        async for each in frames:
            yield each
    except Exception as fault:  # noqa: BLE001 - the status is out: an event is all that can still tell it
        _log.exception("a stream broke off")
        yield frame(as_api_error(fault).envelope, event="error")


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` gives; it is cancelled as soon as the client hangs up.

    Raises:
        ClientGoneError: it did.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
