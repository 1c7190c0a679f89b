"""A batch that this process works on itself. Each has a folder of its own under the home, so none meets another's."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from api.batching import engine
from api.http.batch_types import BatchObject, batch_object
from api.jobs.endpoints import Endpoint
from api.jobs.scan import Scan, scan
from api.service import Service
from api.store import ENDED, Batch, File, Store, open_store
from eot.errors import InputError, UnknownNameError
from eot.settings import Settings

_FOLDER = "batches"


def batch_id(content: Iterator[bytes], settings: Settings) -> str:
    """The same requests to the same councils are the same batch, today and tomorrow."""
    digest = hashlib.sha256(settings.model_dump_json(include={"agents", "councils", "topologies"}).encode())
    for line in content:
        digest.update(line)
    return f"batch_{digest.hexdigest()[:32]}"


class BusyError(InputError):
    """Another process works on the batch."""


class Here:
    """The folder of one batch, and whoever works in it: one process at a time."""

    def __init__(self, id_: str, settings: Settings, at_once: int = 1) -> None:
        self.id, self._settings, self._at_once = id_, settings, at_once
        self._folder = settings.home / _FOLDER / id_
        self._lock: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            BusyError: another process works on it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise BusyError(f"another process works on {self.id}; `eot batch status {self.id}` says how far") from None
        alone = self._settings.model_copy(update={"serve": self._settings.serve.model_copy(update={"store": None})})
        self._service = Service(alone, store=open_store(None, self._folder))
        self._service.jobs = engine(self._service, self._at_once)
        self._store = self._service.store
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._service.jobs.stop()
        await self._service.close()
        assert self._lock is not None
        self._lock.close()

    async def scanned(self, content: Iterator[bytes], endpoint: str) -> Scan:
        """What is wrong with the file, and what it would take. Nothing is asked."""
        known = self._endpoint(endpoint)
        return await scan(_chunks(content), endpoint, known.check, await known.pricing())

    def _endpoint(self, path: str) -> Endpoint:
        known = self._service.jobs.work.endpoints
        if path not in known:
            raise InputError(f"a batch can be for {', '.join(known)}; read {path!r}")
        return known[path]

    async def begin(
        self, name: str, content: Iterator[bytes], endpoint: str, max_calls: int | None, max_usd: float | None
    ) -> None:
        """Begin, or go on: an ended batch stays as it is, one that was cancelled or failed is begun anew.

        What is kept of a batch that is begun anew are its paid calls.
        """
        self._endpoint(endpoint)
        row, caps = await self._store.batches.load(self.id), {"max_calls": max_calls, "max_usd": max_usd}
        if row is None or row.status in ("cancelled", "expired", "failed") or _capped(row):
            file = File(id=self.id, filename=name, purpose="batch")
            await self._store.files.write(file, _chunks(content))
            await self._store.batches.delete(self.id)
            batch = Batch(id=self.id, endpoint=endpoint, input_file_id=self.id, **caps)
            await self._store.batches.save_new(batch)
        elif row.status not in ENDED:
            await self._store.batches.change(self.id, lambda row: row.model_copy(update=caps))
        await self._service.jobs.start()

    async def look(self) -> BatchObject:
        return await looked(self._store, self.id)

    async def lines(self, file: str | None) -> AsyncIterator[str]:
        if file is not None:
            async for line in _lines(self._store, file):
                yield line

    async def cancel(self) -> BatchObject:
        """Stop it: this process is the only one that has it."""
        row = await self._store.batches.change(self.id, _cancelled)
        if row is None:
            raise InputError(f"the batch is {(await self.look()).status}: there is nothing to cancel")
        await self._service.jobs.work.finish(self.id)
        return await self.look()


async def looked(store: Store, id_: str) -> BatchObject:
    row, counts = await store.batches.load(id_), await store.items.counts(id_)
    if row is None:
        raise UnknownNameError("batch", id_, ())
    return batch_object(row, row.counts if row.status in ENDED else counts)


async def all_here(settings: Settings) -> list[BatchObject]:
    """Every batch that ran here, newest first."""
    found = [await look_at(path) for path in (settings.home / _FOLDER).glob("batch_*/eot.sqlite")]
    return sorted((one for one in found if one), key=lambda one: one.created_at, reverse=True)


async def look_at(path: Path) -> BatchObject | None:
    """A batch that perhaps another process has in work."""
    store = open_store(None, path.parent)
    try:
        row = await store.batches.load(path.parent.name)
        return None if row is None else await looked(store, row.id)
    finally:
        await store.close()


def folder_of(id_: str, settings: Settings) -> Path:
    """Where the batch of that id lies.

    Raises:
        UnknownNameError: none ran here under that id.
    """
    known = [path.parent.name for path in (settings.home / _FOLDER).glob("batch_*/eot.sqlite")]
    if id_ not in known:
        raise UnknownNameError("batch", id_, known)
    return settings.home / _FOLDER / id_


async def ask_to_cancel(id_: str, settings: Settings) -> None:
    """Tell the process that works on it."""
    store = open_store(None, folder_of(id_, settings))
    try:
        await store.batches.change(id_, _cancelled)
    finally:
        await store.close()


def _cancelled(row: Batch) -> Batch | None:
    return row.entered("cancelling") if row.status in ("validating", "in_progress", "cancelling") else None


def _capped(row: Batch) -> bool:
    """Whether it ended at a cap: then the same command with a higher one goes on."""
    return row.status == "completed" and bool(row.counts.failed) and (row.max_calls or row.max_usd) is not None


async def _chunks(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    for count, line in enumerate(content):
        yield line
        if count % 200 == 0:
            await asyncio.sleep(0)


async def _lines(store: Store, file: str) -> AsyncIterator[str]:
    rest = b""
    async for chunk in store.files.read(file):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode()
