"""Each request is counted and logged once: method, route, how it ended. Never its query, its body or its headers."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.tracing import continued

_log = logging.getLogger(__name__)
_GONE = 499
"""What is noted for a client that went away before it was answered, as nginx does."""
_METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})


class Access:
    """Counts and logs requests; with `traced`, what they begin belongs to the caller's trace."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, traced: bool = False) -> None:
        self._app, self._metrics, self._traced = app, metrics, traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = _GONE, time.monotonic()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.request_began()
        try:
            with self._trace(scope):
                await self._app(scope, receive, noting)
        except Exception:
            status = 500 if status == _GONE else status
            raise
        finally:
            self._note(scope, status, time.monotonic() - started)

    def _trace(self, scope: Scope) -> AbstractContextManager[None]:
        return continued(Headers(scope=scope)) if self._traced else nullcontext()

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.request_ended(method, route, status, seconds)
        facts = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        if caller := scope.get("state", {}).get("caller"):
            facts["key"] = caller.id
        quiet = route.startswith("/health") or route == "/metrics"
        _log.log(logging.DEBUG if quiet else logging.INFO, "request", extra={"facts": facts})
