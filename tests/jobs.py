"""A bench for batch jobs: a store, an engine, and an endpoint that answers by a function."""

import asyncio
import json
import time
import uuid
from contextlib import asynccontextmanager

from api.jobs.endpoints import Endpoint
from api.jobs.engine import Engine
from api.store import Batch, Estimate, File

PATH = "/v1/chat/completions"


def endpoint(answer, check=lambda body: "", reckoned=None):
    """`answer(body, run_id)` is a coroutine function. Each request is reckoned to take one call, or `reckoned`."""

    async def pricing():
        return lambda _: reckoned or Estimate(calls_least=1, calls_most=1)

    async def perform(body, owner, run_id, calls):
        return await answer(body, run_id)

    return {PATH: Endpoint(check=check, pricing=pricing, perform=perform)}


def lines(count, **body):
    return [{"custom_id": f"q{k}", "method": "POST", "url": PATH, "body": {"n": k, **body}} for k in range(count)]


async def upload(store, rows, owner=""):
    content = rows if isinstance(rows, bytes) else "".join(json.dumps(row) + "\n" for row in rows).encode()

    async def chunks():
        for at in range(0, len(content), 65_536):
            yield content[at : at + 65_536]

    id_ = f"file-{uuid.uuid4().hex}"
    return await store.files.write(File(id=id_, owner=owner, filename="in.jsonl", purpose="batch"), chunks())


async def batch_of(store, rows, owner="", **more):
    """A batch that waits to be validated. Nobody is told: the sweep finds it."""
    file = await upload(store, rows, owner)
    batch = Batch(id=f"batch_{uuid.uuid4().hex}", owner=owner, endpoint=PATH, input_file_id=file.id, **more)
    await store.batches.save_new(batch)
    return batch.id


@asynccontextmanager
async def working(store, answer, *, at_once=16, url=None, **more):
    engine = Engine(store, endpoint(answer, **more), url=url, at_once=at_once)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(1)


async def met(condition, seconds=30):
    """Return when the condition holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it does not come true"
        await asyncio.sleep(0.01)


async def until(store, batch, *statuses, seconds=30):
    """The batch when it has come to one of these statuses."""
    ends = time.monotonic() + seconds
    while (row := await store.batches.load(batch)).status not in statuses:
        assert time.monotonic() < ends, f"{batch} is still {row.status}: {await store.items.counts(batch)}"
        await asyncio.sleep(0.02)
    return row


async def content(store, file):
    """The lines of a file, as a list of objects; none where there is no file."""
    if file is None:
        return []
    text = b"".join([chunk async for chunk in store.files.read(file)]).decode()
    return [json.loads(line) for line in text.splitlines()]


async def ended(store, batch, **more):
    """The ended batch, its output lines and its error lines."""
    row = await until(store, batch, "completed", "failed", "expired", "cancelled", **more)
    return row, await content(store, row.output_file_id), await content(store, row.error_file_id)
