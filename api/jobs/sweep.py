"""What puts right whatever died: once a second one process looks at every batch that has not ended."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest

from api.jobs.work import Queue, Work
from api.store import Batch, Leadership, Store

_PATIENCE = 3
"""Looks without a beat of the process that sweeps, after which another does: three to four seconds."""


@dataclass
class Sweep:
    """`in_all` is how many items may be queued at once for one owner: twice what all workers have in work.

    `left` counts the items without an outcome at the last look.
    """

    store: Store
    queue: Queue
    in_all: int = 32
    left: int = 0
    leadership: Leadership = field(init=False)
    _batches_of: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.leadership = Leadership(self.store.documents, "sweep", _PATIENCE)

    def window(self, batch: Batch) -> int:
        """A batch's share of its owner's window: owners take turns whoever has more batches, and so do batches."""
        return max(1, self.in_all // max(1, self._batches_of[batch.owner]))

    @property
    def in_progress(self) -> int:
        """Batches whose items are asked, at the last look."""
        return self._batches_of.total()

    async def stop_unwanted(self, work: Work) -> None:
        """End the calls of this process that belong to batches which are no longer in progress."""
        for id_ in work.answering.batches:
            row = await self.store.batches.load(id_)
            if row is None or row.status != "in_progress":
                work.answering.stop(id_)

    async def look(self) -> list[Batch]:
        """The batches that have something left to be done."""
        rows = await self.store.batches.active()
        self._batches_of = Counter(row.owner for row in rows if row.status == "in_progress")
        return rows

    async def all(self) -> None:
        """Queue whatever should be queued: what is queued or in work already stays as it is."""
        rows = await self.look()
        self.left = sum([(await self.store.items.counts(row.id)).left for row in rows])
        if not rows or not await self.leadership.look():
            return
        windows: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for row in rows:
            for line in await self._lines(row):
                windows[row.id].append((row.id, line))
        for turn in zip_longest(*windows.values()):
            for id_, line in filter(None, turn):
                await self.queue("item", id_, line)

    async def _lines(self, row: Batch) -> list[int]:
        """The lines of a batch that should be in the queue; anything else it needs is queued at once."""
        if row.status == "validating":
            await self.queue("validate", row.id, 0)
            return []
        if row.status == "in_progress" and row.expires is not None and row.expires <= time.time():
            await self.store.batches.change(row.id, _expired)
        elif row.status == "in_progress" and (lines := await self.store.items.window(row.id, self.window(row))):
            return lines
        await self.queue("finish", row.id, 0)
        return []


def _expired(row: Batch) -> Batch | None:
    return row.entered("finalizing", ending="expired") if row.status == "in_progress" else None
