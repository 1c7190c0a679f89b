"""eot's own runs: each is in the store from its first moment, and outlives whoever asked for it and this process."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

from api.asks import Ask
from api.http.errors import as_api_error
from api.http.run_types import RunObject, RunRequest
from api.run_sweep import RunSweep
from api.runs import Run, is_own_id, new_id
from api.store import STORE_FAULTS, Running, Store, Told
from api.store.rows import Run as Row
from eot.errors import EotError
from eot.settings import Settings

_TITLE = 120
_BEGUN_AT_MOST = 3
"""A run in which the process died this often is not begun again: it may be what killed it."""
_NUMBERS = 10**9
"""Event numbers of one life of a run: the next life's are all above them, so that who comes back misses none."""
_LOOK = 0.25
"""Seconds between two looks at a run that another process has."""
_STOPPING = 15.0
_AGAIN = 1.0

_log = logging.getLogger(__name__)


class NativeRuns:
    """Runs that are kept. Replies are kept under the run's id too, so that beginning again costs only the rest.

    Any process on the same store can show, follow and stop a run; the one that has it hears of that through the store.
    """

    def __init__(self, settings: Settings, start: Callable[..., Awaitable[Run]], store: Store) -> None:
        """`start` begins a run as `Runs.start` does."""
        self._settings, self._start, self._store = settings, start, store
        self._live: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._sweep = RunSweep(store, self.live, self._begin_again)
        self._closing = False

    def open(self) -> None:
        """From now on take over what dead processes left, and hear what others want of the runs here."""
        self._sweep.start()

    def drain(self) -> None:
        """Take over nothing more."""
        self._sweep.taking_over = False

    async def begin(
        self,
        body: RunRequest,
        *,
        owner: str = "",
        run_id: str | None = None,
        job: bool = False,
        calls: int | None = None,
    ) -> Run:
        """Begin a run and put it into the store.

        Raises:
            ApiError, EotError: it cannot begin.
        """
        ask = body.ask(self._settings)
        row = Row(
            id=run_id or new_id(),
            owner=owner,
            title=_title(ask),
            request=body.model_dump(mode="json", exclude={"stream"}),
        )
        return await self._begin(ask, row, job=job, calls=calls)

    async def _begin_again(self, row: Row) -> None:
        """Begin what a process that died had begun. It is this process's own by now."""
        if row.begun > _BEGUN_AT_MOST:
            died = EotError(f"the server died {_BEGUN_AT_MOST} times while this run was under way")
            await self._close(row, _failed(row, died))
            return
        try:
            ask = RunRequest.model_validate(dict(row.request)).ask(self._settings)
            await self._begin(ask, row, job=True)
        except STORE_FAULTS:
            raise
        except Exception as fault:  # noqa: BLE001 - one run that cannot go on must not keep the others from it
            await self._close(row, _failed(row, fault))

    async def _begin(self, ask: Ask, row: Row, *, job: bool, calls: int | None = None) -> Run:
        told = (row.begun - 1) * _NUMBERS
        run = await self._start(ask, owner=row.owner, run_id=row.id, keep=True, job=job, calls=calls, told=told)
        try:
            if row.begun == 1:
                await self._enter(row)
        except BaseException:
            run.cancel()
            raise
        keeping = asyncio.create_task(self._keep(run, row))
        self._live[run.id] = run, keeping
        keeping.add_done_callback(lambda _: self._live.pop(run.id, None))
        return run

    async def _enter(self, row: Row) -> None:
        """First onto the list of what is running: a run that stands there and nowhere else is dropped from it."""
        if is_own_id(row.id):  # the id of a job's run is its engine's to begin again
            await self._store.running.save(
                Running(id=row.id, owner=row.owner, created=row.created, holder=self._sweep.me)
            )
        await self._store.runs.save(row)

    async def _keep(self, run: Run, row: Row) -> None:
        """Write down how it ended, as soon as it has. The store is waited for; not for a job: that is asked again."""
        await run.ended()
        ended = _ended(run, row)
        while True:
            try:
                await self._close(row, ended)
            except STORE_FAULTS as fault:
                _log.warning("run %s has ended and cannot be kept yet: %s", run.id, type(fault).__name__)
                if is_own_id(run.id) and not self._closing:
                    await asyncio.sleep(_AGAIN)
                    continue
            except Exception:  # noqa: BLE001 - whatever the store says, the verdict was told
                _log.exception("run %s has ended and could not be kept", run.id)
            return

    async def _close(self, row: Row, ended: Row) -> None:
        """Its end, unless the run is another process's by now."""
        await self._store.runs.change(
            row.id, lambda now: ended if (now.status, now.begun) == ("running", row.begun) else None
        )
        if is_own_id(row.id):
            await self._sweep.leave(row.id, row.begun)

    async def kept(self, run_id: str) -> None:
        """Return when the run has ended and is in the store."""
        if run_id in self._live:
            await asyncio.wait([self._live[run_id][1]])

    async def load(self, run_id: str, owner: str) -> Row | None:
        row = await self._store.runs.load(run_id)
        return row if row and row.owner == owner else None

    def live(self, run_id: str) -> Run | None:
        """The run, if this process has it and its end is not in the store yet."""
        return self._live[run_id][0] if run_id in self._live else None

    async def stop(self, run_id: str) -> None:
        """Stop it, wherever it is, and return when its end is in the store, or 15 s have passed elsewhere."""
        if run := self.live(run_id):
            run.stop()
            await self.kept(run_id)
            return
        asked = await self._store.running.change(run_id, lambda now: now.model_copy(update={"stop": True}))
        if asked:
            await self.ended(run_id, _STOPPING)

    async def ended(self, run_id: str, within: float) -> None:
        """Return when the run has ended, wherever it is, or `within` seconds have passed."""
        if run := self.live(run_id):
            await run.ended(within)
            if run.status != "running":
                await self.kept(run_id)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while (row := await self._store.runs.load(run_id)) and row.status == "running":  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK)

    async def follow(
        self, run_id: str, after: int, patience: float
    ) -> AsyncIterator[tuple[int, dict[str, Any]] | None]:
        """The events past number `after` of a run that another process has, until it has ended; None as in `Run`.

        The pieces of turns are not among them: each turn is told as a whole when it has ended.
        """
        await self._store.running.change(run_id, lambda now: now.model_copy(update={"heard": True}))
        silent = time.monotonic()
        while row := await self._store.runs.load(run_id):
            told = await self._store.told.load(run_id) if row.status == "running" else row
            for number, event in past_events(told) if told and told.begun == row.begun else ():
                if number > after:
                    after, silent = number, time.monotonic()
                    yield number, event
            if row.status != "running":
                return
            if time.monotonic() - silent >= patience:
                silent = time.monotonic()
                yield None
            await asyncio.sleep(_LOOK)

    async def close(self) -> None:
        self._closing = True
        await self._sweep.stop()
        if self._live:
            await asyncio.wait([keeping for _, keeping in self._live.values()])


def run_object(row: Row) -> RunObject:
    return RunObject.model_validate(row.model_dump(exclude={"owner", "events", "begun"}))


def past_events(row: Row | Told) -> Iterator[tuple[int, dict[str, Any]]]:
    """The events of a run as they are in the store, with their numbers, but for the pieces of turns."""
    for line in row.events.split("\n") if row.events else ():
        told = json.loads(line)
        yield told["number"], told["event"]


def end_number(row: Row) -> int:
    """The number of what comes after the last event of an ended run."""
    *_, last = [(row.begun - 1) * _NUMBERS, *(number for number, _ in past_events(row))]
    return last + 1


def _title(ask: Ask) -> str:
    return " ".join(ask.question.text.split())[:_TITLE]


def _ended(run: Run, row: Row) -> Row:
    found: dict[str, Any] = {"status": run.status, "ended": time.time(), "events": run.written()}
    if run.result:
        found["result"] = run.result.model_dump(mode="json")
    if run.fault:
        found["error"] = as_api_error(run.fault).body.model_dump()
    return row.model_copy(update=found)


def _failed(row: Row, fault: Exception) -> Row:
    error = as_api_error(fault).body.model_dump()
    return row.model_copy(update={"status": "failed", "ended": time.time(), "error": error})
