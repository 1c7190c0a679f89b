"""`Idempotency-Key`: a request that is sent again is answered what it was answered, and paid once.

The same key with the same request: the stored answer; with another request: 422; while the first is under way: 409.
What is stored is a success that was sent whole; whatever failed, or was hung up on, may be tried again under its key.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.body import replayed, whole
from api.http.errors import ApiError, answer
from api.store import Answer, Area

_log = logging.getLogger(__name__)

_LEASE = 60.0
"""Seconds that a request under way holds its key for, and renews while it lives: a dead one blocks nobody for long."""
_KEPT = 24 * 3600.0
_LONGEST_KEY = 255
_LARGEST_ANSWER = 4 << 20
_FILES = "/v1/files"
_TOLD = ("content-type", "cache-control", "x-accel-buffering", "location")
_FAILED_MIDWAY = re.compile(rb'^(?:data: \{"error":|event: (?:error|response\.failed)$)', re.MULTILINE)
"""How a stream that broke tells it, after a status of 200."""


class Idempotency:
    """For every POST that has the header, but files, whose bodies are not held in memory."""

    def __init__(self, app: ASGIApp, answers: Area[Answer]) -> None:
        self._app, self._answers = app, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if key is None or scope["method"] != "POST" or scope["path"] == _FILES:
            await self._app(scope, receive, send)
            return
        if not 1 <= len(key) <= _LONGEST_KEY:
            fault = ApiError(
                400, f"an Idempotency-Key has 1 to {_LONGEST_KEY} characters", code="invalid_idempotency_key"
            )
            await answer(fault)(scope, receive, send)
            return
        body = await whole(receive)
        if body is None:  # the client is gone
            return
        row = _row(scope, key, body)
        standing = await self._answers.save_new(row, time.time() + _LEASE)
        if standing is not None:
            await _again(standing, row)(scope, receive, send)
            return
        await self._first(row, scope, replayed(body, receive), send)

    async def _first(self, row: Answer, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it; a success is kept before its last byte goes out, so that whoever has it whole finds it again."""
        heard = _Heard()
        async with _Claim(self._answers, row) as claim:

            async def hearing(message: Message) -> None:
                heard.note(message)
                if kept := heard.as_row(row):
                    await claim.keep(kept)
                await send(message)

            await self._app(scope, receive, hearing)


class _Claim:
    """A key while its first request is under way: held by a lease that is renewed; in the end kept or let go."""

    def __init__(self, answers: Area[Answer], row: Answer) -> None:
        self._answers, self._row = answers, row
        self._over = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._kept = False

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end_lease()
        if not self._kept:
            await self._told(self._answers.delete(self._row.id))

    async def keep(self, answered: Answer) -> None:
        await self._end_lease()
        self._kept = True
        await self._told(self._answers.save(answered, time.time() + _KEPT))

    async def _renew(self) -> None:
        while not self._over.is_set():
            try:
                await asyncio.wait_for(self._over.wait(), _LEASE / 3)
            except TimeoutError:
                await self._told(self._answers.save(self._row, time.time() + _LEASE))

    async def _end_lease(self) -> None:
        """By a word and not by cancelling, which could leave a renewal behind the answer's own write."""
        self._over.set()
        if self._renewing:
            await self._renewing

    async def _told(self, step: Awaitable[object]) -> None:
        """A store that is away must not take from the client what is paid for: then the lease runs out by itself."""
        try:
            await step
        except Exception as fault:  # noqa: BLE001 - whatever keeps the store from it
            _log.warning("an idempotency key could not be kept: %s", type(fault).__name__)


class _Heard:
    """An answer as it went out."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._whole = False

    def note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            sent = Headers(raw=message["headers"])
            self._status = message["status"]
            self._headers = {name: sent[name] for name in _TOLD if name in sent}
        elif message["type"] == "http.response.body" and len(self._body) <= _LARGEST_ANSWER:
            self._body += message.get("body", b"")
            self._whole = not message.get("more_body", False)

    def as_row(self, row: Answer) -> Answer | None:
        """What to keep; None if it was no success, broke off or is too large."""
        success = 200 <= self._status < 300 and self._whole and len(self._body) <= _LARGEST_ANSWER
        if not success or _FAILED_MIDWAY.search(self._body):
            return None
        body = self._body.decode()
        return row.model_copy(update={"status": self._status, "headers": self._headers, "body": body})


def _row(scope: Scope, key: str, body: bytes) -> Answer:
    """The claim of one caller's key. Neither the key nor the body is kept as it is."""
    owner = scope["state"]["caller"].id
    request = f"{scope['method']} {scope['path']}\n".encode() + body
    return Answer(
        id=hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest(),
        owner=owner,
        body_hash=hashlib.sha256(request).hexdigest(),
    )


def _again(standing: Answer, row: Answer) -> Response:
    """What the second request under a key is answered."""
    if standing.body_hash != row.body_hash:
        return answer(ApiError(422, "this Idempotency-Key was used for another request", code="idempotency_key_reused"))
    if standing.status is None:
        return answer(
            ApiError(
                409,
                "the first request with this Idempotency-Key is still under way",
                code="idempotency_in_progress",
                headers={"retry-after": "1"},
            )
        )
    headers = dict(standing.headers) | {"idempotent-replayed": "true"}
    return Response(standing.body, status_code=standing.status, headers=headers)
