"""eot's own runs: each is in the store from its first moment, and outlives whoever asked for it and this process."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from api.asks import Ask
from api.http.errors import as_api_error
from api.http.run_types import RunObject, RunRequest
from api.runs import Run, is_own_id, new_id
from api.store import Store
from api.store.rows import Run as Row
from eot.errors import EotError
from eot.settings import Settings

_TITLE = 120
_BEGUN_AT_MOST = 3
"""A run in which the process died this often is not begun again: it may be what killed it."""

_log = logging.getLogger(__name__)


class NativeRuns:
    """Runs that are kept. Replies are kept under the run's id too, so that beginning again costs only the rest."""

    def __init__(self, settings: Settings, start: Callable[..., Awaitable[Run]], store: Store) -> None:
        """`start` begins a run as `Runs.start` does."""
        self._settings, self._start, self._store = settings, start, store
        self._live: dict[str, tuple[Run, asyncio.Task[None]]] = {}

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

    async def resume(self) -> None:
        """Begin again what was running when the process before this one died."""
        for row in await self._store.runs.page(None, 200):
            if row.status == "running" and is_own_id(row.id):  # the id of a job's run is its engine's to begin again
                await self._begin_again(row.model_copy(update={"begun": row.begun + 1}))

    async def _begin_again(self, row: Row) -> None:
        if row.begun > _BEGUN_AT_MOST:
            died = EotError(f"the server died {_BEGUN_AT_MOST} times while this run was under way")
            await self._store.runs.save(_failed(row, died))
            return
        try:
            ask = RunRequest.model_validate(dict(row.request)).ask(self._settings)
            await self._begin(ask, row, job=True)
        except Exception as fault:  # noqa: BLE001 - one run that cannot go on must not keep the server from starting
            await self._store.runs.save(_failed(row, fault))

    async def _begin(self, ask: Ask, row: Row, *, job: bool, calls: int | None = None) -> Run:
        run = await self._start(ask, owner=row.owner, run_id=row.id, keep=True, job=job, calls=calls)
        try:
            await self._store.runs.save(row)
        except BaseException:
            run.cancel()
            raise
        keeping = asyncio.create_task(self._keep(run, row))
        self._live[run.id] = run, keeping
        keeping.add_done_callback(lambda _: self._live.pop(run.id, None))
        return run

    async def _keep(self, run: Run, row: Row) -> None:
        """Write down how it ended, as soon as it has."""
        await run.ended()
        try:
            await self._store.runs.save(_ended(run, row))
        except Exception:  # noqa: BLE001 - whatever the store says, the verdict was told
            _log.exception("run %s has ended and could not be kept", run.id)

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

    async def close(self) -> None:
        if self._live:
            await asyncio.wait([keeping for _, keeping in self._live.values()])


def run_object(row: Row) -> RunObject:
    return RunObject.model_validate(row.model_dump(exclude={"owner", "events", "begun"}))


def past_events(row: Row) -> Iterator[tuple[int, dict[str, Any]]]:
    """The events of an ended run with their numbers, but for the pieces of turns."""
    for line in row.events.split("\n") if row.events else ():
        told = json.loads(line)
        yield told["number"], told["event"]


def _title(ask: Ask) -> str:
    return " ".join(ask.question.text.split())[:_TITLE]


def _ended(run: Run, row: Row) -> Row:
    events = "\n".join(f'{{"number":{number},"event":{event.model_dump_json()}}}' for number, event in run.log)
    found: dict[str, Any] = {"status": run.status, "ended": time.time(), "events": events}
    if run.result:
        found["result"] = run.result.model_dump(mode="json")
    if run.fault:
        found["error"] = as_api_error(run.fault).body.model_dump()
    return row.model_copy(update=found)


def _failed(row: Row, fault: Exception) -> Row:
    error = as_api_error(fault).body.model_dump()
    return row.model_copy(update={"status": "failed", "ended": time.time(), "error": error})
