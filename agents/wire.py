"""What a hosted model's server may do to us over the wire: no redirects, no endless errors, no line without an end.

And what it is told: that an agent asks, so that an ensemble which is asked so can refuse to sit in another.

LiteLLM reads the whole body of an error and searches it for secrets on the event loop: 10 MB of it would hold everybody
up for minutes.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import httpx

if TYPE_CHECKING:
    import aiohttp

FROM_AN_AGENT = "x-eot-agent"
"""The header that an agent's requests carry. A council refuses them: else one might, over detours, ask itself."""
_LONGEST_ERROR = 16 << 10
_LONGEST_LINE = 4 << 20
_direct: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


def guarded_client(handler: type[Any]) -> httpx.AsyncClient:
    """The running loop's client, made by LiteLLM's own `handler`, which knows of proxies and certificates."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = handler(event_hooks={"request": [_ask], "response": [_guard]}, follow_redirects=False)
    client = _clients[loop].client
    assert isinstance(client, httpx.AsyncClient)
    return client


def direct_session() -> aiohttp.ClientSession:
    """The running loop's session for servers that are asked without LiteLLM. Deadlines are kept by who asks.

    httpx takes ten times the processor time for a call (1.6 ms against 0.16), and a time that grows with the number of
    connections. Proxies of the environment hold as they do there.
    """
    import aiohttp  # noqa: PLC0415 - a quarter of a second, wanted only by those who ask such a server

    loop = asyncio.get_running_loop()
    if loop not in _direct:
        _drop_ended()
        _direct[loop] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"accept-encoding": "identity", FROM_AN_AGENT: "1"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a few kilobytes could else be many megabytes
            trust_env=True,
        )
    return _direct[loop]


@atexit.register
def _drop_ended() -> None:
    """A session knows its loop: it is not forgotten with it, and complains where it is dropped without being closed."""
    for loop in [loop for loop in _direct if loop.is_closed()]:
        closing = _direct.pop(loop).close()
        with suppress(StopIteration):  # on a loop that has ended there is nothing to wait for: one step is all of it
            closing.send(None)
        closing.close()


async def shortly(answer: aiohttp.ClientResponse) -> str:
    """What an error's body says, as far as it is read."""
    if "content-encoding" in answer.headers:
        return ""
    held = bytearray()
    async for some in answer.content.iter_any():
        held += some
        if len(held) >= _LONGEST_ERROR:
            break
    return held[:_LONGEST_ERROR].decode(errors="replace")


async def lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """A body's lines. Split at newlines alone: a JSON string may hold what else Python takes for the end of a line.

    Raises:
        httpx.RemoteProtocolError: one has no end, or what was asked for uncompressed is compressed.
    """
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise httpx.RemoteProtocolError("the server compressed what was asked for uncompressed")
    held = bytearray()
    async for some in answer.content.iter_any():
        *whole, rest = some.split(b"\n")
        for line in whole:
            held += line
            yield bytes(held)
            held.clear()
        held += rest
        if len(held) > _LONGEST_LINE:
            raise httpx.RemoteProtocolError(f"a line of more than {_LONGEST_LINE >> 20} MiB")
    if held:
        yield bytes(held)


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
