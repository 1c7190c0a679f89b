"""Who calls: asked of every request before anything of its body is read."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.wire import FROM_AN_AGENT
from api.http.errors import ApiError, answer
from api.keys import ANYONE, Caller, Keyring, is_loopback
from api.limits import Limits

_FREE = frozenset({"/health/live", "/health/ready", "/", "/icon.svg"})
_PAGE = "/assets/"
"""What needs no key: health, and the chat page's own files. All that is not listed here needs one."""
_SCOPES = (
    ("/v1/files", "batch"),
    ("/v1/batches", "batch"),
    ("/v1/local-models", "admin"),
    ("/v1/grafts", "admin"),
    ("/v1/moe/builds", "admin"),
    ("/v1/", "chat"),
    ("/metrics", "admin"),
)
"""The scope that a path needs, by how it begins; any key will do for the rest."""


class Gate:
    """Lets in who may come in; `request.state.caller` says who it is.

    While no key was ever made, anyone may call who is on this machine, provided that the server listens on loopback
    only: not a page of another site in a browser here, which the request's `host` and `origin` give away.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, limits: Limits, host: str) -> None:
        self._app, self._keyring, self._limits = app, keyring, limits
        self._may_be_open = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or scope["path"] in _FREE or scope["path"].startswith(_PAGE):
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._caller(Headers(scope=scope))
            _refuse_beyond_scope(caller, scope["path"])
            scope.setdefault("state", {})["caller"] = caller
            _refuse_agents(scope)
            told = await self._limits.admit(caller) if caller.id and _is_counted(scope) else {}
        except ApiError as fault:
            await answer(fault)(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(told)
            await send(message)

        await self._app(scope, receive, telling)

    async def _caller(self, headers: Headers) -> Caller:
        if self._may_be_open and not await self._keyring.exist():
            _refuse_other_sites(headers)
            return ANYONE
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _unknown("a key is needed: send it as `Authorization: Bearer KEY`; `eot keys create` makes one")
        caller = await self._keyring.caller(key.strip())
        if caller is None:
            raise _unknown("this key is not known, or was revoked")
        return caller


def caller(request: Request) -> Caller:
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


Calling = Annotated[Caller, Depends(caller)]


def _unknown(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def _refuse_beyond_scope(caller: Caller, path: str) -> None:
    for start, scope in _SCOPES:
        if path.startswith(start):
            if not caller.may(scope):
                raise ApiError(403, f"this key has not the scope {scope!r} that {start} needs", code="scope_missing")
            return


def _is_counted(scope: Scope) -> bool:
    """Whatever begins something. To end it must be possible when nothing is left."""
    return bool(scope["method"] == "POST" and not scope["path"].endswith("/cancel"))


def _refuse_agents(scope: Scope) -> None:
    """An agent whose base_url leads here would sit in a council of councils, in the end in its own."""
    if scope["method"] == "POST" and FROM_AN_AGENT in Headers(scope=scope):
        raise ApiError(
            400,
            "an ensemble cannot sit in an ensemble: this comes from an agent whose base_url leads here; "
            "let it name the model's own server",
            code="ensemble_in_ensemble",
            headers={"connection": "close"},
        )


def _refuse_other_sites(headers: Headers) -> None:
    """A page elsewhere can make a browser on this machine call us; by another name for our address, read us too."""
    origin = headers.get("origin")
    for name, address in (("host", f"//{headers.get('host', '')}"), ("origin", origin)):
        if address is not None and not _is_here(address):
            raise ApiError(
                403,
                f"without keys this server answers only to this machine's own names, not to this {name}; "
                "`eot keys create` makes a key",
                code="not_local",
            )


def _is_here(address: str) -> bool:
    try:
        return is_loopback(urlsplit(address).hostname or "")
    except ValueError:
        return False
