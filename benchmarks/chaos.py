"""A batch while everything that works on it is killed, frozen and starved: what is lost, what is doubled.

`lost` and `doubled` count custom_ids with no line and with more than one in the batch's two files. `recovery_s` is the
longest time from the mending of a fault (the process is started again, or thawed) until another item was committed:
the start of the process is in it, and one call to the upstream. `asked_again` counts calls to the upstream that had
been made before: what was under way when somebody died.

Faults by name: worker (kill -9), api (kill -9), redis (kill -9, 5 s down), still (Redis frozen for 10 s), zombie (a
worker frozen past its lease, then woken), disk (no file may grow until it is mended). With `--embedded` there is no
Redis and no worker: the server does the work over SQLite, and the faults are api and disk.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from fleet import Fleet, waited
from report import arguments, report

FULL = "worker=20,api=10,redis=5,still=1,zombie=1,disk=1"
EMBEDDED = "api=10,disk=1"
WORKERS, JOBS, LEASE, PATIENCE, SECONDS_A_FAULT = 3, 2, 10.0, 600.0, 12.0
ENDED = ("completed", "failed", "expired", "cancelled")


class Chaos:
    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet, self.random = fleet, random.Random(seed)
        self.batch, self.recovery = "", 0.0
        self.faults: dict[str, Callable[[], None]] = {
            "worker": self._worker,
            "api": self._api,
            "redis": self._redis,
            "still": self._still,
            "zombie": self._zombie,
            "disk": self._disk,
        }

    def begin(self, items: int) -> None:
        lines = "".join(
            json.dumps({"custom_id": f"q{k}", "url": "/v1/runs", "body": {"question": f"How many are {k}?"}}) + "\n"
            for k in range(items)
        )
        brought = self._post("/v1/files", files={"file": ("in.jsonl", lines)}, data={"purpose": "batch"})
        asked = {"input_file_id": brought["id"], "endpoint": "/v1/runs", "completion_window": "24h"}
        self.batch = self._post("/v1/batches", json=asked)["id"]

    def _post(self, path: str, **more: Any) -> Any:
        return httpx.post(self.fleet.url + path, timeout=60, **more).raise_for_status().json()

    def look(self) -> Any:
        return httpx.get(f"{self.fleet.url}/v1/batches/{self.batch}", timeout=5).raise_for_status().json()

    def done(self) -> int:
        """Items that have an outcome, -1 while nobody can tell."""
        with suppress(httpx.HTTPError):
            counts = self.look()["request_counts"]
            return int(counts["completed"] + counts["failed"])
        return -1

    def strike(self, fault: str) -> None:
        """One fault, mended again; then wait until there is progress."""
        waited(lambda: 1 / (self.done() >= 0), "the server")
        self.faults[fault]()
        mended = time.monotonic()
        waited(lambda: 1 / (self.done() >= 0), "the server")  # before it answers nobody can tell what is new
        before = self.done()
        while self.done() <= before and not self._is_over():
            if time.monotonic() - mended > PATIENCE:
                raise TimeoutError(f"no progress after {fault}")
            time.sleep(0.05)
        took = time.monotonic() - mended
        self.recovery = max(self.recovery, took)
        print(f"{fault}: {took:.1f} s, {self.done()} done", file=sys.stderr)
        time.sleep(self.random.uniform(0, 0.5))

    def _is_over(self) -> bool:
        with suppress(httpx.HTTPError):
            return self.look()["status"] in ENDED
        return False

    def _worker(self) -> None:
        worker = self.random.choice(self.fleet.workers)
        worker.kill()
        worker.start()

    def _api(self) -> None:
        self.fleet.api.kill()
        self.fleet.api.start()

    def _redis(self) -> None:
        assert self.fleet.redis
        self.fleet.redis.kill()
        time.sleep(5)
        self.fleet.redis.start()

    def _still(self) -> None:
        assert self.fleet.redis
        self.fleet.redis.send(signal.SIGSTOP)
        time.sleep(10)
        self.fleet.redis.send(signal.SIGCONT)

    def _zombie(self) -> None:
        worker = self.random.choice(self.fleet.workers)
        worker.send(signal.SIGSTOP)
        time.sleep(LEASE + 5)
        worker.send(signal.SIGCONT)

    def _disk(self) -> None:
        """Redis that fsyncs always ends when it cannot write; SQLite refuses each write."""
        full = self.fleet.redis or self.fleet.api
        full.limit_files(1)
        time.sleep(3)
        if full.is_alive:
            full.limit_files(-1)
        else:
            full.start()

    def until_over(self) -> Any:
        ends = time.monotonic() + PATIENCE
        while not self._is_over():
            if time.monotonic() > ends:
                raise TimeoutError(f"the batch does not end: {self.look()}")
            time.sleep(0.2)
        return self.look()

    def names(self, ended: Any) -> Iterator[str]:
        for file in (ended["output_file_id"], ended["error_file_id"]):
            if file:
                text = httpx.get(f"{self.fleet.url}/v1/files/{file}/content", timeout=60).raise_for_status().text
                if file == ended["error_file_id"]:
                    print(text[:2000], file=sys.stderr)
                yield from (json.loads(line)["custom_id"] for line in text.splitlines())


def measure(items: int, faults: str, seed: int, *, embedded: bool) -> dict[str, float]:
    pairs = (one.partition("=") for one in faults.split(","))
    wanted = [name for name, _, times in pairs for _ in range(int(times))]
    at_once = JOBS * (1 if embedded else WORKERS)
    latency = max(0.1, len(wanted) * SECONDS_A_FAULT * at_once / items)  # so that the batch lasts as long as they do
    with TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder), 0 if embedded else WORKERS, JOBS, latency)
        try:
            return _measured(Chaos(fleet, seed), items, wanted)
        finally:
            fleet.end()


def _measured(chaos: Chaos, items: int, wanted: list[str]) -> dict[str, float]:
    chaos.random.shuffle(wanted)
    chaos.begin(items)
    waited(lambda: 1 / (chaos.done() > 0), "the first answer")
    struck = 0
    for fault in wanted:
        if chaos._is_over():
            break
        chaos.strike(fault)
        struck += 1
    ended = chaos.until_over()
    lines = Counter(chaos.names(ended))
    return {
        "lost": items - len(lines),
        "doubled": sum(count > 1 for count in lines.values()),
        "recovery_s": chaos.recovery,
        "failed": ended["request_counts"]["failed"],
        "asked_again": sum(count - 1 for count in chaos.fleet.upstream.asked.values()),
        "faults": struck,
    }


if __name__ == "__main__":
    parser = arguments(__doc__ or "")
    parser.add_argument("--items", type=int, default=2000, help="requests of the batch [2000]")
    parser.add_argument("--faults", help=f"[{FULL}; embedded: {EMBEDDED}]")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' order [0]")
    parser.add_argument("--embedded", action="store_true", help="one process over SQLite")
    options = parser.parse_args()
    chosen = options.faults or (EMBEDDED if options.embedded else FULL)
    figures = measure(options.items, chosen, options.seed, embedded=options.embedded)
    report("A batch under faults", figures, as_json=options.json)
