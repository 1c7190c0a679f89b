"""A service to be broken: an upstream that counts, a Redis or SQLite, `eot serve`, `eot worker`s, each a process."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

_START_SECONDS = 60.0


class Upstream(ThreadingHTTPServer):
    """An OpenAI-compatible server that takes its time for an answer, and counts how often each question is asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, latency: float) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.latency = latency
        self.asked: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, Upstream)
        self.server.asked[json.dumps(body["messages"])] += 1
        time.sleep(self.server.latency)
        with suppress(ConnectionError):  # whoever asked was killed
            self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for choices in (
            [{"index": 0, "delta": {"role": "assistant", "content": "The answer is 7."}, "finish_reason": None}],
            [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        ):
            chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Process:
    """One process that can be killed, frozen, thawed and started again."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self._words, self._folder, self._environment = words, folder, environment
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        # Python ignores the signal of a file that grows past its limit, and so does what it starts: a full disk.
        self._process = subprocess.Popen(
            self._words,
            cwd=self._folder,
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            restore_signals=False,
        )

    def send(self, sign: signal.Signals) -> None:
        os.kill(self._process.pid, sign)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def limit_files(self, size: int) -> None:
        """No file of this process grows past `size` bytes any more; -1 lifts it."""
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def end(self) -> None:
        if self.is_alive:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
        self._process.wait()
        self._log.close()


class Fleet:
    """With a Redis, as many workers as are asked for; without one, a server that does the work itself."""

    def __init__(self, folder: Path, workers: int, jobs: int, latency: float) -> None:
        self.folder, self.jobs, self.upstream = folder, jobs, Upstream(latency)
        self.url = f"http://127.0.0.1:{(port := _free_port())}"
        self.redis_port = _free_port() if workers else None
        self._write_settings()
        self.redis = self._redis() if self.redis_port else None
        if self.redis_port:
            waited(lambda: socket.create_connection(("127.0.0.1", self.redis_port)).close(), "Redis")
        self.api = self._eot("serve", "--port", str(port))
        self.workers = [self._eot("worker", "--jobs", str(jobs)) for _ in range(workers)]
        waited(self.ready, "the server")

    def _write_settings(self) -> None:
        store = (
            f'store = "redis://127.0.0.1:{self.redis_port}/0"\njobs = 0\n'
            if self.redis_port
            else f"jobs = {self.jobs}\n"
        )
        (self.folder / "eot.toml").write_text(
            f'[agents.a]\nmodel = "openai/m"\nbase_url = "http://127.0.0.1:{self.upstream.server_port}/v1"\n'
            f'[councils.default]\nagents = ["a"]\nrounds = 0\n[serve]\nlog_level = "warning"\n{store}',
            encoding="utf-8",
        )

    def _redis(self) -> Process:
        options = {"port": self.redis_port, "bind": "127.0.0.1", "save": "", "appendonly": "yes"}
        options |= {"appendfsync": "always", "maxmemory-policy": "noeviction"}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        return Process(["redis-server", *words], self.folder)

    def _eot(self, *words: str) -> Process:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EOT_")}
        home = {"EOT_HOME": str(self.folder / "home")}
        return Process([str(Path(sys.executable).with_name("eot")), *words], self.folder, kept | home)

    def ready(self) -> None:
        httpx.get(f"{self.url}/health/ready", timeout=2).raise_for_status()

    def end(self) -> None:
        for process in (*self.workers, self.api, self.redis):
            if process:
                process.end()
        self.upstream.shutdown()


def waited(step: Callable[[], object], what: str, seconds: float = _START_SECONDS) -> None:
    """Try a step until it does not raise."""
    ends = time.monotonic() + seconds
    while True:
        try:
            step()
        except Exception:  # noqa: BLE001 - whatever keeps it from working, it may work soon
            if time.monotonic() > ends:
                raise TimeoutError(f"{what} did not come up") from None
            time.sleep(0.1)
        else:
            return


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
