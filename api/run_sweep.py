"""What processes on one store do for runs: hear what is wanted of their own, take over what dead ones left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from api.runs import Run
from api.store import STORE_FAULTS, Presence, Running, Store, Told
from api.store.rows import Run as Row

_LOOK = 0.5
_PATIENCE = 20
"""Looks without a beat of a process, after which its runs are taken over: ten seconds, the lease of jobs too."""
_PAGE = 500
_KEPT_SECONDS = 86_400.0

_log = logging.getLogger(__name__)


class RunSweep:
    """Looks twice a second at the list of runs that have not ended, and beats while some of them are its own."""

    def __init__(
        self, store: Store, live: Callable[[str], Run | None], begin_again: Callable[[Row], Awaitable[None]]
    ) -> None:
        """`live` gives a run that this process has; `begin_again` begins one that is its own from now on."""
        self._store, self._live, self._begin_again = store, live, begin_again
        self._presence = Presence(store.documents, _PATIENCE)
        self._written: dict[str, int] = {}
        self._claimed: dict[str, Running] = {}
        self._task: asyncio.Task[None] | None = None
        self.taking_over = True

    @property
    def me(self) -> str:
        """This process's name on the list."""
        return self._presence.me

    def start(self) -> None:
        self._task = self._task or asyncio.create_task(self._forever())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def leave(self, run_id: str, begun: int) -> None:
        """The run has ended: take it off the list, unless it is another process's by now."""
        entry = await self._store.running.load(run_id)
        if entry and (entry.holder, entry.begun) == (self.me, begun):
            await self._store.running.delete(run_id)
            await self._store.told.delete(run_id)
        self._written.pop(run_id, None)

    async def _forever(self) -> None:
        while True:
            try:
                await self.look()
            except STORE_FAULTS as fault:
                _log.warning("runs wait for the store: %s", type(fault).__name__)
            except Exception:  # noqa: BLE001 - the next look may go well
                _log.exception("the look at runs stumbled, and goes on")
            await asyncio.sleep(_LOOK)

    async def look(self) -> None:
        entries = await self._listed()
        mine = [entry for entry in entries if entry.holder == self.me]
        if mine:
            await self._presence.beat()
        for entry in mine:
            await self._heed(entry)
        others = [entry for entry in entries if entry.holder != self.me]
        gone = await self._presence.gone(entry.holder for entry in others)
        for entry in others:
            if entry.holder in gone and self.taking_over:
                await self._claim(entry)
        for entry in list(self._claimed.values()):
            await self._take_over(entry)

    async def _listed(self) -> Sequence[Running]:
        found: list[Running] = []
        while page := await self._store.running.page(None, _PAGE, found[-1].id if found else None):
            found += page
        return found

    async def _heed(self, entry: Running) -> None:
        """What others want of a run that is here: that it stops, or that they hear of its events."""
        run = self._live(entry.id)
        if run is None:
            return
        if entry.stop:
            run.stop()
        if entry.heard and self._written.get(entry.id) != run.told:
            self._written[entry.id] = run.told
            told = Told(id=entry.id, owner=entry.owner, begun=entry.begun, events=run.written())
            await self._store.told.save(told, time.time() + _KEPT_SECONDS)

    async def _claim(self, entry: Running) -> None:
        """Of those who try, one succeeds."""
        mine = {"holder": self.me, "begun": entry.begun + 1}
        claimed = await self._store.running.change(
            entry.id, lambda now: now.model_copy(update=mine) if now == entry else None
        )
        if claimed:
            self._claimed[entry.id] = claimed

    async def _take_over(self, entry: Running) -> None:
        """From now on the row refuses the hand of whoever had it. A store that fails here is tried at the next look."""
        row = await self._store.runs.change(
            entry.id, lambda now: now.model_copy(update={"begun": entry.begun}) if now.status == "running" else None
        )
        if row is None:  # it had ended, or was never begun
            await self.leave(entry.id, entry.begun)
        else:
            _log.warning("run %s is begun again: the process that had it is gone", entry.id)
            await self._begin_again(row)
        del self._claimed[entry.id]
