"""Requests that wait are taken together and decoded in a thread; those that come meanwhile join them or come next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from eot.errors import CallError
from local_models.engine import Generation, Hear, Trace
from local_models.request import Request

GATHER_SECONDS = 0.005
"""How long the first request of a batch waits for others: far less than one step of a model takes."""
T = TypeVar("T")
Asked = TypeVar("Asked", bound=Request[Any])


class Batches(Generic[Asked]):
    """At most `parallel` requests at once go through `decode`, in a thread of `name`'s own."""

    def __init__(self, name: str, parallel: int, decode: Callable[[Sequence[Asked]], None]) -> None:
        self._name, self._parallel, self._decode = name, parallel, decode
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"torch-{name}")
        self._waiting: list[Asked] = []
        self._running: list[Asked] = []
        self._worker: asyncio.Task[None] | None = None
        self._between = 0
        self._closed = False

    async def told(self, request: Asked, hear: Hear | None, trace: Trace | None = None) -> Generation:
        """Put a request in and wait for its end."""
        self.refuse_closed()
        self._waiting.append(request)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await request.told(hear, trace)

    async def between(self, work: Callable[[], T]) -> T:
        """Run something else in the thread, when it has ended the batch that it is at."""
        self.refuse_closed()
        self._between += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._between -= 1

    def more(self, running: int) -> list[Asked]:
        """Those that may join `running` others in the batch that is being decoded; called by whoever decodes it.

        Nobody does while somebody waits for the batch to end.
        """
        if self._between or self._closed:
            return []
        joining = self._waiting[: max(0, self._parallel - running)]
        if not joining:
            return []
        self._running = [*(request for request in self._running if request.wanted()), *joining]
        del self._waiting[: len(joining)]  # whoever is put in meanwhile stands behind them
        return [request for request in joining if request.wanted()]

    def refuse_closed(self) -> None:
        if self._closed:
            raise CallError(f"{self._name} has been closed")

    async def close(self) -> None:
        self._closed = True
        for request in (*self._waiting, *self._running):
            request.fail(CallError(f"{self._name} was closed while it wrote"))
        self._waiting.clear()
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_SECONDS)
                self._running, self._waiting = self._waiting[: self._parallel], self._waiting[self._parallel :]
                if wanted := [request for request in self._running if request.wanted()]:
                    await self._run(wanted)
        finally:
            self._running, self._worker = [], None

    async def _run(self, requests: list[Asked]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._decode, requests)
        except Exception as fault:  # noqa: BLE001  (whatever torch raises, nobody may wait for ever)
            for request in list(self._running):
                request.fail(CallError(f"{self._name} failed: {fault}"))
