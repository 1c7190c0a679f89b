"""What a hosted model's server may do to us over the wire: no redirects, no endless errors, no line without an end.

And what it is told: that an agent asks, so that an ensemble which is asked so can refuse to sit in another.

LiteLLM reads the whole body of an error and searches it for secrets on the event loop: 10 MB of it would hold everybody
up for minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import httpx

FROM_AN_AGENT = "x-eot-agent"
"""The header that an agent's requests carry. A council refuses them: else one might, over detours, ask itself."""
_LONGEST_ERROR = 16 << 10
_LONGEST_LINE = 4 << 20
_direct: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


def guarded_client(handler: type[Any]) -> httpx.AsyncClient:
    """The running loop's client, made by LiteLLM's own `handler`, which knows of proxies and certificates."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = handler(event_hooks={"request": [_ask], "response": [_guard]}, follow_redirects=False)
    client = _clients[loop].client
    assert isinstance(client, httpx.AsyncClient)
    return client


def direct_client() -> httpx.AsyncClient:
    """The running loop's client for servers that are asked without LiteLLM. Deadlines are kept by who asks."""
    loop = asyncio.get_running_loop()
    if loop not in _direct:
        _direct[loop] = httpx.AsyncClient(
            event_hooks={"request": [_ask], "response": [_guard]},
            follow_redirects=False,
            timeout=httpx.Timeout(None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )
    return _direct[loop]


async def _ask(request: httpx.Request) -> None:
    """Uncompressed: a few kilobytes could else be many megabytes."""
    request.headers["accept-encoding"] = "identity"
    request.headers[FROM_AN_AGENT] = "1"


async def _guard(response: httpx.Response) -> None:
    """Before any of the body is read."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    if response.status_code < 300:
        response.stream = _InLines(response.stream)
    else:
        response.stream = _Short(response.stream, 0 if "content-encoding" in response.headers else _LONGEST_ERROR)


class _Short(httpx.AsyncByteStream):
    """The first bytes of an error: enough to say what was wrong."""

    def __init__(self, stream: httpx.AsyncByteStream, length: int) -> None:
        self._stream, self._length = stream, length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._length
        async for piece in self._stream:
            if left <= 0:
                return
            yield piece[:left]
            left -= len(piece)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _InLines(httpx.AsyncByteStream):
    """A stream whose lines end: whoever splits it holds each in memory."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for piece in self._stream:
            end = piece.rfind(b"\n")
            length = length + len(piece) if end < 0 else len(piece) - end - 1
            if length > _LONGEST_LINE:
                raise httpx.RemoteProtocolError(f"a line of more than {_LONGEST_LINE >> 20} MiB")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
