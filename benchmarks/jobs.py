"""Batch jobs in one process over SQLite: how fast files are validated and items committed, what stays in memory.

`validate_50k_s` is the time from POST to in_progress of a file of 50,000 chat requests, each checked against the
council it names. `items_per_s` counts items that do nothing, each committed durably. `rss_growth` is by what share of
itself the process grew between a tenth of them and all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from report import arguments, report

from api.batching import endpoints
from api.defaults import with_defaults
from api.jobs.endpoints import Body, Endpoint
from api.jobs.engine import Engine
from api.service import Service
from api.store import Batch, Estimate, File, Store, open_store
from eot.settings import AgentSettings, Settings

LINES, AT_ONCE, CHAT = 50_000, 64, "/v1/chat/completions"


async def requests(count: int) -> AsyncIterator[bytes]:
    for first in range(0, count, 1000):
        lines = (request(number) for number in range(first, min(first + 1000, count)))
        yield "".join(lines).encode()


def request(number: int) -> str:
    body = {
        "model": "eot/default",
        "messages": [{"role": "user", "content": f"How many eggs are {number} dozen and {number} more?"}],
    }
    return json.dumps({"custom_id": f"q{number}", "method": "POST", "url": CHAT, "body": body}) + "\n"


async def nothing(body: Body, owner: str, run_id: str, calls: int | None) -> Body:
    del body, owner, run_id, calls
    return {}


async def free() -> object:
    return lambda _: Estimate()


async def begun(store: Store, name: str, count: int) -> str:
    await store.files.write(File(id=f"file-{name}", filename=name, purpose="batch"), requests(count))
    batch = Batch(id=f"batch_{name}", endpoint=CHAT, input_file_id=f"file-{name}")
    await store.batches.save_new(batch)
    return batch.id


async def until(store: Store, batch: str, *statuses: str) -> None:
    while (row := await store.batches.load(batch)) is None or row.status not in statuses:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def validating(home: Path) -> float:
    """Seconds for the whole file, with the checks of a real council."""
    agents = {name: AgentSettings(model="scripted", script=("7",)) for name in ("a", "b", "c")}
    service = Service(with_defaults(Settings(home=home, agents=agents), {}))
    service.jobs = Engine(service.store, endpoints(service), at_once=1)
    batch = await begun(service.store, "long", LINES)
    start = time.perf_counter()
    await service.jobs.work.validate(batch)
    seconds = time.perf_counter() - start
    await until(service.store, batch, "in_progress")
    await service.close()
    return seconds


async def working(home: Path, items: int) -> tuple[float, float]:
    """Items a second, and the growth of the process between a tenth of the items and all of them."""
    store = open_store(None, home)
    engine = Engine(store, {CHAT: Endpoint(lambda _: "", free, nothing)}, at_once=AT_ONCE)  # type: ignore[arg-type]
    await engine.start()
    warm = await begun(store, "warm", items // 10)
    await until(store, warm, "completed")
    before = resident()
    batch = await begun(store, "all", items)
    await until(store, batch, "in_progress", "completed")
    start = time.perf_counter()
    await until(store, batch, "completed")
    rate, after = items / (time.perf_counter() - start), resident()
    await engine.stop()
    await store.close()
    return rate, after / before - 1


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def measure(items: int) -> dict[str, float]:
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        rate, growth = await working(Path(one), items)
        return {"validate_50k_s": await validating(Path(other)), "items_per_s": rate, "rss_growth": growth}


if __name__ == "__main__":
    parser = arguments(__doc__ or "")
    parser.add_argument("--items", type=int, default=20_000, help="items that do nothing [20000]")
    options = parser.parse_args()
    report("Batch jobs", asyncio.run(measure(options.items)), as_json=options.json)
