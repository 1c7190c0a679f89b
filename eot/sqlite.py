"""SQLite files that several threads and processes write at once."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

BUSY_SECONDS = 30.0
"""How long a writer waits for the others of its file."""
_LOOK = 0.02


def connect(path: Path, synchronous: Literal["normal", "full"]) -> sqlite3.Connection:
    """Open or make a file in WAL mode, for any thread, without transactions of its own; only its owner can read it.

    Raises:
        OSError, sqlite3.Error: it cannot be opened, or is no such file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made before SQLite opens it: the -wal and -shm files beside it then take the same mode. One that is there must not
    # be touched: to close it would give up the locks of this process's other connections, and others delete their WAL.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _write_ahead(connection)
        connection.execute(f"pragma synchronous = {synchronous}")
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Of two processes that switch a new file at once, SQLite refuses one without any waiting."""
    latest = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > latest:
                raise
            time.sleep(_LOOK)
        else:
            return
