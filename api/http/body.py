"""What is refused of a body before anything is made of it: that it is too large, of too many parts, or no text.

Too large it is by what it says of itself, before it is read, or when it has run over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import ApiError, answer

_FILES = "/v1/files"
_MAYBE_LONE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
"""Half of a pair of surrogates, as JSON escapes it or as bytes: Python reads both, and no model can be sent them."""

_MOST_PARTS = 300_000
_PART = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{\[,]', re.DOTALL)
"""A text with all that stands in it, or what opens or adds to a list or an object. It never looks twice at a byte."""


class BodyLimit:
    """Answers 413 past `max_body` bytes, or past `max_file` where files are brought. Both count what is on the wire."""

    def __init__(self, app: ASGIApp, max_body: int, max_file: int) -> None:
        self._app, self._max_body, self._max_file = app, max_body, max_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_file if scope["path"] == _FILES else self._max_body
        said = Headers(scope=scope).get("content-length", "")
        if said.isdecimal() and int(said[:20]) > limit:
            await answer(_too_large(limit))(scope, receive, send)
            return
        read = 0

        async def counting() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, headers={"connection": "close"})  # there may be no end to it
            return message

        try:
            await self._app(scope, counting, send)
        except HTTPException as fault:  # raised to one of our layers: the routes have answered theirs
            if fault.status_code != 413:
                raise
            await answer(_too_large(limit, fault.headers))(scope, receive, send)


def _too_large(limit: int, headers: Mapping[str, str] | None = None) -> ApiError:
    return ApiError(
        413,
        f"the body is too large: at most {limit / 2**20:,.0f} MiB are taken here",
        code="body_too_large",
        headers=headers,
    )


class Readable:
    """Answers 400 to JSON that is not to be read, and 415 to what is packed.

    One with a lone surrogate in it, wherever, could be neither sent, nor kept, nor answered. One of millions of parts
    would hold up everybody else while it is read: nine megabytes of small objects take two seconds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if headers.get("content-encoding", "identity").lower() != "identity":
            await answer(_PACKED)(scope, receive, send)
            return
        if "json" not in headers.get("content-type", "").lower():
            await self._app(scope, receive, send)
            return
        body = await whole(receive)
        if body is None:  # the client is gone
            return
        if fault := _TOO_MANY_PARTS if _has_too_many_parts(body) else _NO_TEXT if _is_no_text(body) else None:
            await answer(fault)(scope, receive, send)
            return
        await self._app(scope, replayed(body, receive), send)


_PACKED = ApiError(
    415, "a body with a content-encoding is not unpacked here; send it as it is", code="unsupported_encoding"
)
_NO_TEXT = ApiError(
    400,
    "the body has half of a surrogate pair (\\ud800 to \\udfff) standing alone, which is no character: send both "
    "halves, or leave it out",
    code="invalid_unicode",
)

_TOO_MANY_PARTS = ApiError(
    400,
    f"the body has more than {_MOST_PARTS:,} texts, lists, objects and commas between them; ask for less at once",
    code="too_many_parts",
)


def _has_too_many_parts(body: bytes) -> bool:
    """Almost every body is told by counting signs; where these may stand in texts, the parts are."""
    if sum(map(body.count, (b'"', b"{", b"[", b","))) <= _MOST_PARTS:
        return False
    return next(islice(_PART.finditer(body), _MOST_PARTS, None), None) is not None


def _is_no_text(body: bytes) -> bool:
    """Almost every body is told by one search; only what has surrogates at all is read."""
    if b"\0" not in body[:4] and not _MAYBE_LONE.search(body):
        return False
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):  # no JSON at all: whoever reads it next says so
        return False
    return False


async def whole(receive: Receive) -> bytes | None:
    """The body; None where the client went before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, then whatever else comes."""
    told = False

    async def replaying() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying
