"""Every answer carries an `x-request-id`, and no error leaves the server in any form but the envelope."""

from __future__ import annotations

import hashlib
import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import answer, as_api_error
from api.logs import request_id

_USABLE = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_log = logging.getLogger(__name__)


def _logged(given: str) -> str:
    """What the log says of a caller's own id, which may name a person: who knows the id finds its lines."""
    return f"given_{hashlib.sha256(given.encode()).hexdigest()[:16]}"


class RequestId:
    """Takes the caller's `x-request-id` if it can be printed, else makes one; `scope["state"]["request_id"]` has it.

    The outermost of our layers: what nobody below has caught becomes a 500 here, with the id in it, and is logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if _USABLE.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = name
        request_id.set(name if name != given else _logged(given))
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as fault:
            _log.exception("the request failed")
            if begun:  # the status is out: all that is left is to cut the connection
                raise
            await answer(as_api_error(fault))(scope, receive, send_with_id)
