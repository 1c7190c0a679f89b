"""One SQLite file behind two threads: one writes in groups, one reads what was committed."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from eot.errors import InputError
from eot.sqlite import connect

T = TypeVar("T")
Step = Callable[[sqlite3.Connection], Any]

_GROUP = 256

_SCHEMA = """
create table if not exists documents (
    kind text not null, id text not null, owner text not null, created real not null, expires real, text text not null,
    primary key (kind, id)
) without rowid;
create index if not exists documents_by_age on documents (kind, created, id);
create index if not exists documents_by_owner on documents (kind, owner, created, id);
create index if not exists documents_expiring on documents (expires) where expires is not null;
create table if not exists items (
    batch text not null, line integer not null, custom_id text not null, request text not null,
    ok integer, body text, primary key (batch, line)
) without rowid;
create unique index if not exists items_by_name on items (batch, custom_id);
create index if not exists items_left on items (batch, line) where ok is null;
create table if not exists tallies (
    batch text primary key, total integer not null default 0, completed integer not null default 0,
    failed integer not null default 0, calls integer not null default 0, input_tokens integer not null default 0,
    output_tokens integer not null default 0, usd real not null default 0, unpriced integer not null default 0
) without rowid;
create table if not exists bookings (
    batch text not null, line integer not null, calls integer not null, primary key (batch, line)
) without rowid;
create table if not exists buckets (key text primary key, level real not null, at real not null) without rowid;
create table if not exists sums (
    key text not null, slot text not null, amount real not null, primary key (key, slot)
) without rowid;
"""


class Database:
    """Steps that come while a commit is under way share the next one, so that a hundred of them cost one sync.

    A write has reached the disk when it returns (WAL, synchronous=FULL). A step that raises is undone alone. The file
    is readable by its owner alone, since it holds what users asked.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            InputError: the path is no such file, or cannot be written.
        """
        try:
            self._writer = connect(path, synchronous="full")
            self._writer.executescript(_SCHEMA)
            self._reader = connect(path, synchronous="full")
        except (OSError, sqlite3.Error) as fault:
            raise InputError(f"the service's store cannot be kept in {path}: {fault}; name another home") from fault
        self._waiting: queue.SimpleQueue[tuple[Step, Future[Any]] | None] = queue.SimpleQueue()
        self._reading = ThreadPoolExecutor(1, "eot-store-read")
        self._thread = threading.Thread(target=self._work, name="eot-store-write", daemon=True)
        self._thread.start()

    async def write(self, step: Callable[[sqlite3.Connection], T]) -> T:
        """Run the step in a transaction; when this returns, what it did is committed.

        Raises:
            sqlite3.Error: what the step raised, or the commit did: a full disk, say. Nothing was changed then.
        """
        done: Future[T] = Future()
        self._waiting.put((step, done))
        return await asyncio.wrap_future(done)

    async def read(self, step: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, step, self._reader)

    async def close(self) -> None:
        """Commit what waits, then close."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        self._reading.shutdown()
        self._reader.close()
        self._writer.close()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            group, last = [first], False
            while len(group) < _GROUP and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    last = True
                    break
                group.append(following)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[tuple[Step, Future[Any]]]) -> None:
        """All steps of a group in one transaction; each hears of its own fault, and all of the commit's."""
        on = self._writer
        results: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            on.execute("begin immediate")
            for step, done in group:
                results.append((done, *_tried(on, step)))
            on.execute("commit")
        except sqlite3.Error as fault:
            if on.in_transaction:
                on.execute("rollback")
            results = [(done, None, fault) for _, done in group]
        for done, value, wrong in results:
            if not done.set_running_or_notify_cancel():
                continue  # who asked has gone; the step was done all the same
            if wrong:
                done.set_exception(wrong)
            else:
                done.set_result(value)


def _tried(on: sqlite3.Connection, step: Step) -> tuple[Any, Exception | None]:
    on.execute("savepoint step")
    try:
        value = step(on)
    except Exception as fault:
        if not on.in_transaction:  # a full disk may end the whole transaction
            raise sqlite3.OperationalError(str(fault)) from fault
        on.execute("rollback to step")
        on.execute("release step")
        return None, fault
    on.execute("release step")
    return value, None
