"""The file of paid calls: one SQLite table that survives kill -9 and serves several processes at once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from eot.errors import InputError
from eot.sqlite import connect

_SCHEMA = """
create table if not exists calls (
    run_id text not null, agent text not null, round integer not null, digest text not null,
    reply text not null, created text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    primary key (run_id, agent, round, digest)
) without rowid;
create index if not exists calls_by_age on calls (created)
"""
_PRUNED = 500
"""Rows deleted in one step: a writer beside it waits for no more than that."""


@dataclass(frozen=True)
class CallKey:
    """What identifies one call. `digest` stands for the prompt, the model and its sampling, none of which is kept."""

    run_id: str
    agent: str
    round: int
    digest: str


class Calls(Protocol):
    """Where paid replies are kept. `faults` are what its methods raise when the place is full or gone."""

    faults: tuple[type[Exception], ...]

    def find(self, key: CallKey) -> str | None: ...

    def put(self, key: CallKey, reply: str, instead_of: str | None = None) -> str:
        """Keep a reply, and return the one that stands: the first that was put, unless it is `instead_of`."""
        ...

    def asking(self, key: CallKey) -> asyncio.Lock:
        """Held while this call is looked up or made, so that nobody in this process makes it a second time."""
        ...

    def prune(self, before: float) -> int:
        """Forget the replies that were kept before this Unix time; return how many. Others may do so by themselves."""
        ...

    def close(self) -> None: ...


class CallStore:
    """Replies by key, as JSON. `find` and `put` block: use a thread. Safe from any thread and from several processes.

    WAL with synchronous=NORMAL: what was put survives the death of the process at any instant; only a power cut may
    lose the last replies. The file is readable by its owner alone, since replies may hold what users asked.
    """

    faults: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            InputError: the path is no such file, or cannot be written.
        """
        try:
            self._connection = connect(path, synchronous="normal")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as fault:
            raise InputError(f"paid calls cannot be kept in {path}: {fault}; name another file") from fault
        self._lock = threading.Lock()
        self._asking = WeakValueDictionary[CallKey, asyncio.Lock]()  # a lock goes when nobody holds or awaits it

    def find(self, key: CallKey) -> str | None:
        where = "run_id = ? and agent = ? and round = ? and digest = ?"
        with self._lock:
            row = self._connection.execute(f"select reply from calls where {where}", _values(key)).fetchone()  # noqa: S608 - constants
        return str(row[0]) if row else None

    def put(self, key: CallKey, reply: str, instead_of: str | None = None) -> str:
        """Keep a reply, and return the one that stands: the first that was put, unless it is `instead_of`.

        When it returns, the reply is on the file.
        """
        insert = (
            "insert into calls (run_id, agent, round, digest, reply) values (?, ?, ?, ?, ?)"
            " on conflict do update set reply = excluded.reply where reply is ?"
        )
        with self._lock:
            self._connection.execute(insert, (*_values(key), reply, instead_of))
        return self.find(key) or reply

    def asking(self, key: CallKey) -> asyncio.Lock:
        """Held while this call is looked up or made, so that nobody in this process makes it a second time."""
        return self._asking.setdefault(key, asyncio.Lock())

    def prune(self, before: float) -> int:
        """Forget the replies that were kept before this Unix time; return how many."""
        old = "select run_id, agent, round, digest from calls where created < strftime(?, ?, 'unixepoch') limit ?"
        gone = f"delete from calls where (run_id, agent, round, digest) in ({old})"  # noqa: S608 - constants
        pruned = 0
        while True:
            with self._lock:
                step = self._connection.execute(gone, ("%Y-%m-%dT%H:%M:%fZ", before, _PRUNED)).rowcount
            pruned += step
            if step < _PRUNED:
                return pruned

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _values(key: CallKey) -> tuple[str, str, int, str]:
    return key.run_id, key.agent, key.round, key.digest
