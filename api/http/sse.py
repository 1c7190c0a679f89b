"""Server-sent events: how they are written, and what ends with them when the reader goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.http.errors import ClientGoneError

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


class EventStream(StreamingResponse):
    """Streams `frames` as they come, and closes them however the response ends, the reader's leaving included."""

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None, status_code: int = 200
    ) -> None:
        """FastAPI reads the status for its OpenAPI from this signature."""
        super().__init__(frames, status_code=status_code, headers={**_HEADERS, **(headers or {})})
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._frames.aclose()


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
