"""A body that is too large is refused before it is read: by what it says of itself, or when it has run over."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import ApiError, answer

_FILES = "/v1/files"


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
