"""The queue under the jobs: pydocket, in this process's memory or in Redis. What it loses, the sweep queues again."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

from docket import Docket, Worker

from api.jobs.answering import Book, uncounted, unlimited
from api.jobs.endpoints import Endpoints
from api.jobs.sweep import Sweep
from api.jobs.work import Work
from api.store import STORE_FAULTS, Store

_log = logging.getLogger(__name__)

LEASE = 10.0
"""Seconds without a sign of a worker after which what it had in work is given to another."""
_CHECK = timedelta(milliseconds=20)
_AGAIN = 1.0
_STINT = 1.0


class Engine:
    """Works on the batches of a store until it is stopped. `at_once` items are in work here; 0 leaves all to others.

    `url` is where the queue lies: a Redis that many processes share, or None for this process alone. `count` is told
    what came of each item: completed, failed, too_late, tried_again or left.
    """

    def __init__(
        self,
        store: Store,
        endpoints: Endpoints,
        *,
        url: str | None = None,
        at_once: int = 16,
        lease: float = LEASE,
        booked: Book = unlimited,
        count: Callable[[str], None] = uncounted,
    ) -> None:
        self._at_once, self._lease = at_once, timedelta(seconds=lease)
        self._url, self._alone = url or f"memory://{uuid.uuid4().hex}", url is None
        self.sweep = Sweep(store, self.queue, in_all=2 * max(1, at_once))
        self.work = Work(store, endpoints, self.queue, self.sweep.window, self.sweep.look, booked, count)
        self.work.stint = lambda: _STINT if self._alone and self.sweep.in_progress <= 1 else 0.0
        self._docket: Docket | None = None
        self._connected = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        for name in ("docket.worker", "docket.docket", "docket.execution"):
            logging.getLogger(name).setLevel(logging.WARNING)  # a line for every item otherwise

    @property
    def in_work(self) -> int:
        return sum(map(len, self.work.answering.in_work.values()))

    @property
    def left(self) -> int:
        """Items without an outcome, of all batches, when the sweep last looked."""
        return self.sweep.left

    async def queue(self, task: str, batch: str, line: int = 0) -> None:
        """Queue a task under its own key: one that is queued or in work already stays as it is.

        Where each process has a queue of its own, the one that sweeps does the work: two would ask everything twice.
        """
        if self._docket is None or (self._alone and not self.sweep.leadership.mine):
            return
        try:
            await self._docket.add(task, key=f"{task}:{batch}:{line}")(batch, line)
        except STORE_FAULTS as fault:
            _log.warning("%s of %s cannot be queued yet: %s", task, batch, type(fault).__name__)

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._forever(self._serve)), asyncio.create_task(self._forever(self._look))]

    def drain(self) -> None:
        """Begin nothing more; what is in work goes on."""
        self.work.draining = True
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    async def stop(self, seconds: float = 0.0) -> None:
        """Give what is in work so long to end, then leave it to whoever comes next."""
        self.drain()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.01, seconds))
        self.work.closing = True
        self.work.answering.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(*STORE_FAULTS):
            await self.sweep.leadership.leave()

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        """A store that is away for a while must not end the process."""
        while not self._stopping:  # a worker that was cancelled ends in peace, as if it had not been
            try:
                await step()
            except STORE_FAULTS as fault:
                _log.warning("jobs wait for the store: %s", type(fault).__name__)
            except Exception:  # noqa: BLE001 - the next look may go well
                _log.exception("jobs stumbled, and go on")
            if not self._stopping:
                await asyncio.sleep(_AGAIN)

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            docket = await stack.enter_async_context(Docket("eot", url=self._url, execution_ttl=timedelta(0)))
            for name, step in self._steps().items():
                docket.register(step, [name])
            self._docket = docket
            self._connected.set()
            stack.callback(self._unset)
            if not self._at_once:
                await asyncio.Event().wait()
            worker = Worker(
                docket,
                name=f"{uuid.uuid4().hex}-{self._at_once}",
                concurrency=self._at_once,
                redelivery_timeout=self._lease,
                reconnection_delay=timedelta(seconds=_AGAIN),
                minimum_check_interval=_CHECK,
                scheduling_resolution=timedelta(seconds=1),
                schedule_automatic_tasks=False,
            )
            await stack.enter_async_context(worker)
            await worker.run_forever()

    def _unset(self) -> None:
        self._docket = None
        self._connected.clear()

    def _steps(self) -> dict[str, Callable[[str, int], Awaitable[None]]]:
        async def validate(batch: str, _: int) -> None:
            await self.work.validate(batch)

        async def item(batch: str, line: int) -> None:
            await self.work.item(batch, line)

        async def finish(batch: str, _: int) -> None:
            await self.work.finish(batch)

        return {"validate": validate, "item": item, "finish": finish}

    async def _look(self) -> None:
        await self._connected.wait()
        if self._docket is None:
            return
        with suppress(*STORE_FAULTS):
            in_work = sum(_at_once_of(worker.name) for worker in await self._docket.workers())
            self.sweep.in_all = 2 * max(1, in_work, self._at_once)
        await self.sweep.stop_unwanted(self.work)
        await self.sweep.all()


def _at_once_of(worker: str) -> int:
    """How much a worker has in work at once: it says so in its name, which is all that the others see of it."""
    said = worker.rpartition("-")[2]
    return int(said) if said.isdecimal() else 0
