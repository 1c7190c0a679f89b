"""Over capacity the answer is 429, at once: whoever cannot be served must cost next to nothing."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.errors import ApiError, answer
from api.service import Service

_COSTLY = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/responses/compact", "/v1/runs", "/v1/votes"})


class Crowd:
    """Turns away requests that would begin a run, or vote, while as many runs as may be are in flight.

    Before all other layers: in a spike each of them would else be read, checked and understood first, and everybody
    else would wait for that.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._runs = app, service.runs
        self._inside = 0
        """Requests let in that have not been answered yet: in a spike none of them has a run so far."""
        self._turn = asyncio.Lock()
        """Lets one begin at each turn of the event loop: whatever else it has to do waits for one at most."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in _COSTLY:
            await self._app(scope, receive, send)
            return
        try:
            self._runs.refuse_when_full(self._inside)
        except ApiError as fault:
            await answer(fault)(scope, receive, send)
            return
        self._inside += 1
        try:
            async with self._turn:
                await asyncio.sleep(0)
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
