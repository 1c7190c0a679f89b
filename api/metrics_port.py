"""The metrics of a process that serves nothing else: `/metrics` on a port of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from api.metrics import CONTENT_TYPE
from eot.errors import InputError

_LONGEST_HEAD = 8192
_PATIENCE = 5.0


@asynccontextmanager
async def metrics_port(port: int | None, render: Callable[[], Awaitable[bytes]]) -> AsyncIterator[int | None]:
    """Answer GET /metrics with what `render` gives, until the block ends. The port: 0 is whichever is free, None none.

    Raises:
        InputError: the port is taken.
    """
    if port is None:
        yield None
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                writer.write(await _answered(await reader.readuntil(b"\r\n\r\n"), render))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # nobody who reads metrics, or gone
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, "127.0.0.1", port, limit=_LONGEST_HEAD)
    except OSError as fault:
        raise InputError(f"--metrics-port {port}: {fault.strerror or fault}; name another") from fault
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def _answered(head: bytes, render: Callable[[], Awaitable[bytes]]) -> bytes:
    """The whole answer to a request with this head; the connection is closed behind it."""
    method, _, rest = head.partition(b" ")
    path = rest.split(b" ", 1)[0].partition(b"?")[0]
    if path != b"/metrics":
        status, kind, body = "404 Not Found", "text/plain", b"there is only /metrics here\n"
    elif method not in (b"GET", b"HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain", b"only GET is taken\n"
    else:
        status, kind, body = "200 OK", CONTENT_TYPE, await render()
    told = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return told.encode() + (b"" if method == b"HEAD" else body)
