"""What a worker does for a batch: validate its file, answer its items, write its files. Each step may be done again.

The rows in the store are the truth and the queue only a hint: whatever is queued twice, too late or never is put right
by the row's own state and by the sweep.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from api.jobs.answering import Answering, Book, uncounted, unlimited
from api.jobs.endpoints import Endpoints
from api.jobs.output import write_files
from api.jobs.scan import Scan, scan
from api.store import ENDED, STORE_FAULTS, Batch, Fault, Outcome, Store

_log = logging.getLogger(__name__)

_BULK = 1_000
_COMMIT_WAIT = 1.0
_MOMENT = 0.5

Queue = Callable[[str, str, int], Awaitable[None]]
"""Takes a task ("validate", "item" or "finish"), a batch's id and a line (0 where there is none)."""


@dataclass
class Work:
    """`window` says how many items of this batch may be queued at once; `look` makes it know a batch that begins."""

    store: Store
    endpoints: Endpoints
    queue: Queue
    window: Callable[[Batch], int]
    look: Callable[[], Awaitable[object]]
    booked: Book = unlimited
    count: Callable[[str], None] = uncounted
    answering: Answering = field(init=False)
    _rows: dict[str, tuple[float, Batch | None]] = field(default_factory=dict)
    _lines: set[tuple[str, int]] = field(default_factory=set)
    stint: Callable[[], float] = lambda: 0.0
    """Seconds. Above 0 only while one batch is in progress, and only here: a line of a stint waits in no queue."""
    draining: bool = False
    """Set when nothing more is to be begun here."""
    closing: bool = False
    """Set when this process ends: what the store does not take then is left to whoever comes next."""

    def __post_init__(self) -> None:
        self.answering = Answering(self.store, self.endpoints, self.booked, self.count)

    async def validate(self, batch_id: str) -> None:
        """Read the batch's file; start it, or fail it with what is wrong."""
        batch = await self.store.batches.load(batch_id)
        if batch is None or batch.status != "validating":
            return
        found = await self._scanned(batch)
        faults = found.faults or _unpriced(batch, found)
        if faults:
            if await self._enter(batch_id, "validating", lambda row: row.entered("failed", errors=tuple(faults))):
                await self._forget(batch_id)
            return
        counts = await self.store.items.counts(batch_id)
        more = {"counts": counts, "estimate": found.estimate}
        if started := await self._enter(batch_id, "validating", lambda row: row.entered("in_progress", **more)):
            await self.look()
            for line in await self.store.items.window(batch_id, self.window(started)):
                await self.queue("item", batch_id, line)
        else:  # cancelled meanwhile: whoever ended it may not have seen the last items
            await self.queue("finish", batch_id, 0)

    async def _scanned(self, batch: Batch) -> Scan:
        file = await self.store.files.load(batch.input_file_id)
        if file is None or file.owner != batch.owner:
            gone = Fault(code="file_not_found", message=f"there is no file {batch.input_file_id}")
            return Scan(faults=[gone])
        endpoint = self.endpoints[batch.endpoint]  # asked for when the batch was made
        chunks = self.store.files.read(file.id)
        price = await endpoint.pricing()
        return await scan(chunks, batch.endpoint, endpoint.check, price, into=self.store.items, batch=batch.id)

    async def _enter(self, batch_id: str, only_from: str, step: Callable[[Batch], Batch]) -> Batch | None:
        return await self.store.batches.change(batch_id, lambda row: step(row) if row.status == only_from else None)

    async def item(self, batch_id: str, line: int) -> None:
        """Answer an item; then, for as long as a stint lasts, those that come into the window for what has ended.

        An item that takes its time is the only one of its stint. Of items that take none, to queue each costs more
        than to answer it.
        """
        began, following = time.monotonic(), line
        while True:
            upcoming = await self._one(batch_id, following)
            if upcoming is None or self.closing:
                return
            if self.draining or time.monotonic() - began >= self.stint():
                await self.queue("item", batch_id, upcoming)
                return
            following = upcoming

    async def _one(self, batch_id: str, line: int) -> int | None:
        """Answer one item and commit its outcome, unless it has one; the line that came into the window for it."""
        if self.closing or (batch_id, line) in self._lines:
            return None
        batch = await self._seen(batch_id)
        if batch is None or batch.status != "in_progress":
            return None
        self._lines.add((batch_id, line))
        try:
            item = await self.store.items.load(batch_id, line)
            if item is None:
                return None
            outcome = await self.answering.outcome(batch, item)
            if outcome is None:
                self.count("left")
                return None
            return await self._commit(batch, outcome)
        finally:
            self._lines.discard((batch_id, line))

    async def _seen(self, batch_id: str) -> Batch | None:
        """The batch as it was a moment ago: one that ended since takes no outcome."""
        at, batch = self._rows.get(batch_id, (0.0, None))
        if time.monotonic() - at > _MOMENT:
            self._rows = {id_: seen for id_, seen in self._rows.items() if time.monotonic() - seen[0] <= _MOMENT}
            batch = await self.store.batches.load(batch_id)
            self._rows[batch_id] = time.monotonic(), batch
        return batch

    async def _commit(self, batch: Batch, outcome: Outcome) -> int | None:
        """Hold on to an outcome that was paid for until the store takes it: a full disk may be emptied."""
        while True:
            try:
                finished = await self.store.items.finish(batch.id, outcome, self.window(batch))
                break
            except STORE_FAULTS as fault:
                if self.closing:
                    raise
                _log.warning("an outcome of %s cannot be committed yet: %s", batch.id, type(fault).__name__)
                await asyncio.sleep(_COMMIT_WAIT)
        self.count("too_late" if not finished.won else "completed" if outcome.ok else "failed")
        if not finished.left:
            await self.queue("finish", batch.id, 0)
        return finished.next_line

    async def finish(self, batch_id: str) -> None:
        """Write the files of a batch that has nothing left to be asked, and end it."""
        batch = await self.store.batches.load(batch_id)
        if batch is not None and batch.status == "in_progress" and not (await self.store.items.counts(batch_id)).left:
            batch = await self._enter(batch_id, "in_progress", lambda row: row.entered("finalizing"))
        if batch is not None and batch.status in ("finalizing", "cancelling"):
            batch = await self._ended(batch)
        if batch is not None and batch.status in ENDED:
            await self._forget(batch_id)

    async def _forget(self, batch_id: str) -> None:
        """A batch that has ended keeps its row and its files. Last of all it leaves the list that the sweep reads."""
        await self.store.items.drop(batch_id)
        await self.store.batches.retire(batch_id)

    async def _ended(self, batch: Batch) -> Batch | None:
        """Every item without an outcome is given one that says why; then nothing can change any more."""
        status = "cancelled" if batch.status == "cancelling" else batch.ending
        if "in_progress" not in batch.at:  # its file may still be being read: none of its requests was accepted yet
            return await self._enter(batch.id, batch.status, lambda row: row.entered(status))
        if status in _UNASKED:
            body = json.dumps({"response": None, "error": _UNASKED[status]})
            while await self.store.items.finish_rest(batch.id, False, body, _BULK):  # noqa: FBT003 - as in Outcome
                pass
        counts = await self.store.items.counts(batch.id)
        files = await write_files(self.store, batch, counts)
        ended = await self._enter(batch.id, batch.status, lambda row: row.entered(status, counts=counts, **files))
        if ended is None:  # somebody else ended it meanwhile, with files of their own
            standing = await self.store.batches.load(batch.id)
            for field, file in files.items():
                if standing is None or getattr(standing, field) != file:
                    await self.store.files.delete(file)
        return ended


_UNASKED = {
    "cancelled": {"code": "batch_cancelled", "message": "the batch was cancelled before this request was answered"},
    "expired": {"code": "batch_expired", "message": "the batch expired before this request was answered"},
}


def _unpriced(batch: Batch, found: Scan) -> list[Fault]:
    """A cap on dollars that cannot be kept is refused before anything is spent."""
    if batch.max_usd is None or found.estimate.usd_most is not None:
        return []
    said = "nobody knows what an agent of this batch costs, so max_usd cannot be kept; cap max_calls instead"
    return [Fault(code="unknown_price", message=said, param="eot.max_usd")]
