"""A way to Redis on which an answer can be lost: the command was done, and who sent it cannot know."""

import asyncio
from contextlib import asynccontextmanager, suppress


class Lossy:
    """Hands bytes on both ways. `lose(n)`: of the next n writes that are sent, the connection breaks before the answer.

    With `each` it does so the first time that a write is sent, whichever it is.
    """

    WRITES = (b"EVALSHA", b"EVAL", b"HINCRBYFLOAT", b"RPUSH", b"EXEC", b"HSET", b"DEL", b"UNLINK")

    def __init__(self, port):
        self._port, self.left, self.lost = port, 0, 0
        self.each, self.seen = False, set()
        self.open = set()

    def lose(self, times=1):
        self.left, self.lost = times, 0

    async def __call__(self, reader, writer):  # noqa: C901 - two ways and a fault on each
        self.open.add(handing := asyncio.current_task())
        handing.add_done_callback(self.open.discard)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        cut = False

        async def forward():
            nonlocal cut
            while data := await reader.read(1 << 20):
                if any(b"\r\n" + word + b"\r\n" in data for word in self.WRITES):
                    if self.each and data not in self.seen:
                        self.left += 1
                    self.seen.add(data)
                    self.left, cut = max(0, self.left - 1), self.left > 0
                up_writer.write(data)
                await up_writer.drain()

        async def back():
            nonlocal cut
            while data := await up_reader.read(1 << 20):  # an answer, or its beginning
                if cut and not data.startswith(b"-NOSCRIPT"):
                    self.lost += 1
                    return
                if cut:
                    self.left, cut = self.left + 1, False  # nothing was done yet: the script is sent first
                writer.write(data)
                await writer.drain()

        ways = [asyncio.create_task(forward()), asyncio.create_task(back())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, up_writer):
            end.close()
            with suppress(OSError):
                await end.wait_closed()


@asynccontextmanager
async def lossy(port):
    """The way, with its `url`."""
    way = Lossy(port)
    server = await asyncio.start_server(way, "127.0.0.1", 0)
    way.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield way
    finally:
        server.close()
        if way.open:  # who used it has hung up
            await asyncio.wait(way.open, timeout=5)
