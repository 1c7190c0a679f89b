"""What the service keeps: runs, files, batches and their items, keys, counters; in SQLite or in Redis."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from redis.exceptions import RedisError

from api.store.areas import Area, Batches, Files, Runs, Store
from api.store.presence import Leadership, Presence
from api.store.redis import RedisBackend
from api.store.rows import (
    ENDED,
    Answer,
    Asked,
    Batch,
    BatchStatus,
    Conversation,
    Counts,
    Estimate,
    Fault,
    Feedback,
    File,
    Finished,
    Item,
    Key,
    Level,
    Making,
    Outcome,
    Run,
    Running,
    Told,
)
from api.store.sqlite import SqliteBackend
from eot.errors import SettingsError

__all__ = [
    "ENDED",
    "STORE_FAULTS",
    "Answer",
    "Area",
    "Asked",
    "Batch",
    "BatchStatus",
    "Batches",
    "Conversation",
    "Counts",
    "Estimate",
    "Fault",
    "Feedback",
    "File",
    "Files",
    "Finished",
    "Item",
    "Key",
    "Leadership",
    "Level",
    "Making",
    "Outcome",
    "Presence",
    "Run",
    "Running",
    "Runs",
    "Store",
    "Told",
    "open_store",
]


STORE_FAULTS = (sqlite3.Error, RedisError, OSError)
"""What a backend raises when it is full, gone or too slow. Nothing of what was asked was done then, or all of it."""

_SCHEMES = ("redis://", "rediss://", "unix://")


def open_store(url: str | None, home: Path) -> Store:
    """The store at a redis:// address, or in SQLite under `home` where there is none.

    Raises:
        SettingsError: the address is none that can be used.
        InputError: the file under `home` cannot be used.
    """
    if url is None:
        return Store(SqliteBackend(home))
    if url.startswith(_SCHEMES):
        return Store(RedisBackend(url))
    begins = url.partition(":")[0][:20]  # the rest may hold a password
    said = f"serve.store: it begins with {begins!r}; write redis://HOST:PORT/0, or leave it out for SQLite in home"
    raise SettingsError(said)
