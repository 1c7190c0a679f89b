"""A batch while what works on it is killed, frozen and starved; `make chaos` does so at length to whole servers."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from jobs import batch_of, ended, lines
from redis_server import RedisServer

from api.store import STORE_FAULTS, open_store

LEASE = 2.0
WORKER = """
import asyncio, logging, sys
from pathlib import Path
from jobs import endpoint
from api.jobs.engine import Engine
from api.store import open_store

async def answer(body, run_id):
    await asyncio.sleep(0.05)
    return {"n": body["n"]}

async def main(url, home, lease):
    logging.disable()
    engine = Engine(open_store(url, home), endpoint(answer), url=url, at_once=4, lease=lease)
    await engine.start()
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1] or None, Path(sys.argv[2]), float(sys.argv[3])))
"""


class Worker:
    def __init__(self, url, home):
        self.words = [sys.executable, "-c", WORKER, url or "", str(home), str(LEASE)]
        self.start()

    def start(self):
        here = Path(__file__).parent
        paths = {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
        self.process = subprocess.Popen(self.words, env=os.environ | paths, restore_signals=False)

    def send(self, sign):
        os.kill(self.process.pid, sign)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.kill()

    def no_file_grows(self, past):
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (past, resource.RLIM_INFINITY))


async def until_done(store, batch, count, seconds=30):
    """Return when so many items are done; a store that is away is looked at again."""
    ends = time.monotonic() + seconds
    while True:
        try:
            counts = await store.items.counts(batch)
            if counts.completed >= count or (await store.batches.load(batch)).status == "completed":
                return
        except STORE_FAULTS:
            pass
        assert time.monotonic() < ends, "no progress"
        await asyncio.sleep(0.05)


def refuse_loss(row, output, errors, count):
    assert (row.status, errors) == ("completed", [])
    names = Counter(line["custom_id"] for line in output)
    assert names == Counter(f"q{k}" for k in range(count))
    assert all(line["response"]["body"]["n"] == int(line["custom_id"][1:]) for line in output)


async def test_nothing_is_lost_or_doubled_while_workers_and_redis_die(tmp_path):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path) as server:
        store = open_store(server.url, tmp_path)
        workers = [Worker(server.url, tmp_path) for _ in range(2)]
        try:
            batch = await batch_of(store, lines(360))
            await until_done(store, batch, 20)
            workers[0].kill()
            await until_done(store, batch, 60)
            server.kill()
            await asyncio.sleep(2)
            server.start()
            await until_done(store, batch, 120)
            workers[0].start()
            workers[1].send(signal.SIGSTOP)  # past its lease, then woken: what it commits comes too late
            await until_done(store, batch, 160)
            await asyncio.sleep(2 * LEASE)
            workers[1].send(signal.SIGCONT)
            await until_done(store, batch, 230)
            server.freeze()
            await asyncio.sleep(3)
            server.thaw()
            workers[1].kill()
            refuse_loss(*await ended(store, batch, seconds=60), 360)
        finally:
            for worker in workers:
                worker.end()
            await store.close()


async def test_nothing_is_lost_or_doubled_while_a_server_over_sqlite_dies_and_its_disk_is_full(tmp_path):
    store = open_store(None, tmp_path)
    worker = Worker(None, tmp_path)
    try:
        batch = await batch_of(store, lines(120))
        for done in (10, 40, 70):
            await until_done(store, batch, done)
            worker.kill()
            worker.start()
        await until_done(store, batch, 100)
        worker.no_file_grows(1)
        await asyncio.sleep(2)
        before = (await store.items.counts(batch)).completed
        worker.no_file_grows(-1)
        refuse_loss(*await ended(store, batch, seconds=60), 120)
        assert before < 120
    finally:
        worker.end()
        await store.close()
