"""The service under load: questions a second, what it adds to the models' own time, and a spike of streams.

Three processes besides this one: an OpenAI-compatible server on loopback that answers after 200 ms, `eot serve` with
five agents of it (two rounds: ten calls a question), and a prober of `/health/live`. Ten questions a second for
`--minutes`, whether the ones before are answered or not; then 500 streams at once, of which each must be answered or
told 429.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles

from report import arguments, report

AGENTS, ROUNDS, LATENCY, RATE, STREAMS = 5, 2, 0.2, 10, 500
PROBE_EVERY = 0.05
DEADLINE = 60.0
EOT = Path(sys.executable).with_name("eot")


def chunk(delta: dict[str, str], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]})


def upstream(told: Connection) -> None:
    """Answers every request after LATENCY, for ever. In a process of its own."""
    asyncio.run(_upstream(told))


async def _upstream(told: Connection) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    pieces = [chunk({"role": "assistant", "content": "I count. "}), chunk({"content": "The answer is 7."})]
    pieces += [chunk({}, "stop"), json.dumps({**json.loads(chunk({})), "choices": [], "usage": usage}), "[DONE]"]
    body = "".join(f"data: {piece}\n\n" for piece in pieces).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                if size := re.search(rb"content-length: *(\d+)", asked, re.IGNORECASE):
                    await reader.readexactly(int(size[1]))
                await asyncio.sleep(LATENCY)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def probe(port: int, told: Connection) -> None:
    """Asks `/health/live` all the time; sends the slowest answer of each stretch, in seconds, when it is asked."""
    slowest = 0.0
    while True:
        begun = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request("GET", "/health/live")
        connection.getresponse().read()
        connection.close()
        slowest = max(slowest, time.perf_counter() - begun)
        if told.poll():
            told.recv()
            told.send(slowest)
            slowest = 0.0
        time.sleep(PROBE_EVERY)


@contextmanager
def process(target: object, *more: object) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    started = multiprocessing.get_context("spawn").Process(target=target, args=(*more, theirs), daemon=True)  # type: ignore[arg-type]
    started.start()
    try:
        yield ours
    finally:
        started.kill()
        started.join()


@contextmanager
def service(folder: Path, port: int) -> Iterator[int]:
    """`eot serve` with agents that ask this port; the port it listens on."""
    lines = []
    for number in range(AGENTS):
        lines += [f"[agents.a{number}]", 'model = "openai/m"', f'base_url = "http://127.0.0.1:{port}/v1"']
        lines += ['api_key = "none"', "retries = 0"]
    names = [f"a{number}" for number in range(AGENTS)]
    lines += ["[councils.default]", f"agents = {names}", 'topology = "memory"', f"rounds = {ROUNDS - 1}"]
    lines += ["stop = []", "lazy = false", "[serve]", 'log_level = "error"']
    (folder / "eot.toml").write_text("\n".join(lines), encoding="utf-8")
    mine = {name: value for name, value in os.environ.items() if not name.startswith("EOT_")}
    started = subprocess.Popen(
        [EOT, "serve", "--port", "0"],
        cwd=folder,
        env=mine | {"EOT_HOME": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stderr is not None
    try:
        found = next(filter(None, (re.search(r"serves on http://[\d.]+:(\d+)", line) for line in started.stderr)))
        yield int(found[1])
    finally:
        started.kill()
        started.wait()


async def ask(port: int, *, stream: bool) -> tuple[int, bytes]:
    """Status and body of one question, on a connection of its own."""
    question = {"role": "user", "content": "How many eggs are left of nine when two are eaten?"}
    body = json.dumps({"model": "eot/default", "messages": [question], "stream": stream}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        answer = await reader.read(-1)
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer


async def timed(port: int) -> tuple[int, float]:
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(DEADLINE):
            status, _ = await ask(port, stream=False)
    except (OSError, TimeoutError, IndexError):
        status = 0
    return status, time.perf_counter() - begun


async def steady(port: int, seconds: float) -> list[tuple[int, float]]:
    """Status and seconds of each question; they are asked by the clock, whatever has been answered."""
    asked, begun = [], time.perf_counter()
    for number in range(max(1, round(seconds * RATE))):
        await asyncio.sleep(max(0.0, begun + number / RATE - time.perf_counter()))
        asked.append(asyncio.create_task(timed(port)))
    return list(await asyncio.gather(*asked))


async def streamed(port: int) -> str:
    try:
        async with asyncio.timeout(DEADLINE):
            status, answer = await ask(port, stream=True)
    except (OSError, TimeoutError, IndexError):
        return "unanswered"
    if status == 429:
        return "refused"
    return "answered" if status == 200 and b"data: [DONE]" in answer and b'"error"' not in answer else "unanswered"


async def spike(port: int) -> Counter[str]:
    return Counter(await asyncio.gather(*(streamed(port) for _ in range(STREAMS))))


def slowest(prober: Connection) -> float:
    prober.send("so far")
    return float(prober.recv())


def measure(seconds: float) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        process(upstream) as models,
        service(Path(folder), models.recv()) as port,
    ):
        asyncio.run(timed(port))  # the first question imports LiteLLM
        with process(probe, port) as prober:
            slowest(prober)
            begun = time.perf_counter()
            found = asyncio.run(steady(port, seconds))
            took = time.perf_counter() - begun
            calm = slowest(prober)
            crowd = asyncio.run(spike(port))
            crowded = slowest(prober)
    added = [1000 * (wall - ROUNDS * LATENCY) for status, wall in found if status == 200] or [float("nan")] * 2
    return {
        "questions_per_s": len(found) / took,
        "errors": sum(status != 200 for status, _ in found),
        "added_p50_ms": median(added),
        "added_p95_ms": quantiles(added, n=20)[-1],
        "liveness_calm_ms": 1000 * calm,
        "spike_answered": crowd["answered"],
        "spike_refused": crowd["refused"],
        "spike_unanswered": crowd["unanswered"],
        "liveness_ms": 1000 * max(calm, crowded),
    }


if __name__ == "__main__":
    parser = arguments(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=10, help="how long the steady load lasts")
    options = parser.parse_args()
    load = f"{RATE} questions/s of {AGENTS} agents x {ROUNDS} rounds for {options.minutes:g} min"
    notes = [f"{load}; {STREAMS} streams at once"]
    report("The service under load", measure(60 * options.minutes), notes, as_json=options.json)
