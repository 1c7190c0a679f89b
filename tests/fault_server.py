"""An OpenAI-compatible upstream on loopback that goes wrong in every way that we know: `FAULTS`, by name."""

import asyncio
import gzip
import json
import socket
from contextlib import asynccontextmanager, suppress

MEGABYTE = 1 << 20
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
DONE = b"data: [DONE]\n\n"


def event(text=None, finish=None, usage=None, model="m"):
    """One server-sent event of a chat completion."""
    choices = [] if usage else [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices}
    return b"data: " + json.dumps(chunk | ({"usage": usage} if usage else {})).encode() + b"\n\n"


def head(status="200 OK", kind="text/event-stream", **headers):
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(text, model="m"):
    return event(text, model=model) + event(finish="stop", model=model) + event(usage=USAGE, model=model) + DONE


async def good(writer, server):
    writer.write(head() + whole(server.says))


async def refuse(writer, status, message, **headers):
    body = json.dumps({"error": {"message": message, "type": "some_error", "code": None}}).encode()
    writer.write(head(status, "application/json", content_length=len(body), **headers) + body)


async def asks_to_wait(writer, server):
    await refuse(writer, "429 Too Many Requests", f"slow down {server.echo}", retry_after="30")


async def asks_to_wait_a_little(writer, server):
    await refuse(writer, "429 Too Many Requests", f"slow down {server.echo}", retry_after="0.2")


async def is_too_busy(writer, server):
    await refuse(writer, "429 Too Many Requests", f"slow down {server.echo}")


async def breaks(writer, server):
    await refuse(writer, "500 Internal Server Error", f"oops {server.echo}")


async def breaks_at_length(writer, server):
    await refuse(writer, "500 Internal Server Error", f"{server.echo} oops " * (10 * MEGABYTE // 28))


async def breaks_in_gzip(writer, server):
    body = gzip.compress(f"{server.echo} oops ".encode() * (10 * MEGABYTE // 28))
    writer.write(head("500 Oops", "application/json", content_length=len(body), content_encoding="gzip") + body)


async def refuses_the_key(writer, server):
    await refuse(writer, "401 Unauthorized", f"Incorrect API key provided: {server.echo}")


async def hangs(writer, server):
    await server.over.wait()


async def hangs_in_mid_sentence(writer, server):
    writer.write(head() + event("The answer is "))
    await writer.drain()
    await server.over.wait()


async def is_cut(writer, server):
    piece = event("The answer is ")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    await writer.drain()
    writer.transport.abort()


async def stops_early(writer, server):
    writer.write(head() + event("The answer is "))


async def writes_bad_json(writer, server):
    writer.write(head() + event("The answer is ") + b'data: {"choices": [{"delta": {"content": "7"\n\n' + DONE)


async def writes_html(writer, server):
    page = f"<html>sign in, {server.echo}</html>".encode()
    writer.write(head(kind="text/html", content_length=len(page)) + page)


async def says_nothing(writer, server):
    writer.write(head() + event(finish="stop") + DONE)


async def sends_nothing(writer, server):
    writer.write(head(content_length=0))


async def writes_ten_megabytes(writer, server):
    writer.write(head())
    for _ in range(160):
        writer.write(event("seven " * 10_923))
        await writer.drain()
    writer.write(event(finish="stop") + DONE)


async def writes_ten_megabytes_at_once(writer, server):
    writer.write(head() + whole("x" * 10 * MEGABYTE))


async def writes_a_line_without_end(writer, server):
    writer.write(head() + b'data: {"x": "')
    while not server.over.is_set():
        writer.write(b"x" * 65536)
        await writer.drain()
        await asyncio.sleep(0.001)


async def drips(writer, server):
    writer.write(head())
    for _ in range(10_000):
        writer.write(event("a"))
        await writer.drain()
        await asyncio.sleep(0.05)


async def names_another_model(writer, server):
    writer.write(head() + whole(server.says, model="somebody-else"))


async def hangs_up(writer, server):
    writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def sends_elsewhere(writer, server):
    writer.write(head("307 Temporary Redirect", location=f"{server.elsewhere}/v1/chat/completions", content_length=0))


FAULTS = {
    "429 with Retry-After": asks_to_wait,
    "429 with a short Retry-After": asks_to_wait_a_little,
    "429": is_too_busy,
    "500": breaks,
    "500 of 10 MB": breaks_at_length,
    "500 of 10 MB in gzip": breaks_in_gzip,
    "401": refuses_the_key,
    "hangs before the first token": hangs,
    "hangs after the first token": hangs_in_mid_sentence,
    "cut SSE": is_cut,
    "SSE without an end": stops_early,
    "bad JSON": writes_bad_json,
    "HTML": writes_html,
    "empty answer": says_nothing,
    "empty body": sends_nothing,
    "10 MB answer": writes_ten_megabytes,
    "10 MB answer at once": writes_ten_megabytes_at_once,
    "a line without end": writes_a_line_without_end,
    "slow drip": drips,
    "connection reset": hangs_up,
    "redirect": sends_elsewhere,
}
"""What goes wrong. Not here: a refused connection, which takes no server, and an echoed model, which is no fault."""


class FaultServer:
    """Answers every request by `act`. `echo` is quoted in its errors; `elsewhere` is where it redirects to."""

    def __init__(self, act, says="The answer is 7.", echo="", elsewhere=""):
        self.act, self.says, self.echo, self.elsewhere = act, says, echo, elsewhere
        self.requests, self.open = 0, 0
        self.over = asyncio.Event()

    async def handle(self, reader, writer):
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            size = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
            await reader.readexactly(size)
            self.requests += 1
            await self._act(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _act(self, reader, writer):
        """The act ends when the client goes."""
        acting = asyncio.ensure_future(self.act(writer, self))
        gone = asyncio.ensure_future(reader.read())
        await asyncio.wait({acting, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in (acting, gone):
            task.cancel()
        for ended in await asyncio.gather(acting, gone, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, ConnectionError):
                raise ended


@asynccontextmanager
async def faulty(act, **more):
    """A server that goes wrong like this; its `url` has the /v1 already."""
    server = FaultServer(act, **more)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        server.over.set()
        listener.close()


def unused_port():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
