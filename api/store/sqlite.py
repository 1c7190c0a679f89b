"""The store in one SQLite file and a folder of files: for one machine, with nothing else installed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from api.store.disk_blobs import DiskBlobs
from api.store.sqlite_counters import SqliteCounters
from api.store.sqlite_database import Database
from api.store.sqlite_items import SqliteItems


class SqliteBackend:
    """`eot.sqlite` and `files/` under one folder."""

    def __init__(self, home: Path) -> None:
        """Open or make them.

        Raises:
            InputError: the folder cannot be written, or the file is no such file.
        """
        self._database = Database(home / "eot.sqlite")
        self.documents = SqliteDocuments(self._database)
        self.items = SqliteItems(self._database)
        self.counters = SqliteCounters(self._database)
        self.blobs = DiskBlobs(home / "files")

    async def ping(self) -> None:
        await self.counters.add("ping", 1)

    async def close(self) -> None:
        await self._database.close()


class SqliteDocuments:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, kind: str, id_: str) -> str | None:
        return await self._database.read(lambda on: _get(on, kind, id_))

    async def several(self, kind: str, ids: Sequence[str]) -> dict[str, str]:
        marks = ", ".join("?" * len(ids))
        asked = f"select id, text from documents where kind = ? and id in ({marks}) and {_ALIVE}"  # noqa: S608 - constants
        rows = await self._database.read(lambda on: on.execute(asked, (kind, *ids, time.time())).fetchall())
        return {str(id_): str(text) for id_, text in rows}

    async def put(
        self, kind: str, id_: str, text: str, *, owner: str = "", created: float = 0.0, expires: float | None = None
    ) -> None:
        row = (kind, id_, owner, created, expires, text)
        await self._database.write(lambda on: on.execute(f"replace {_INTO}", row))

    async def put_new(
        self, kind: str, id_: str, text: str, *, owner: str = "", created: float = 0.0, expires: float | None = None
    ) -> str | None:
        def step(on: sqlite3.Connection) -> str | None:
            on.execute("delete from documents where expires <= ?", (time.time(),))
            added = on.execute(f"insert or ignore {_INTO}", (kind, id_, owner, created, expires, text)).rowcount
            return None if added else _get(on, kind, id_)

        return await self._database.write(step)

    async def swap(self, kind: str, id_: str, old: str, new: str) -> bool:
        change = "update documents set text = ? where kind = ? and id = ? and text = ?"
        return await self._database.write(lambda on: on.execute(change, (new, kind, id_, old)).rowcount == 1)

    async def page(self, kind: str, owner: str | None, limit: int, after: str | None = None) -> list[str]:
        where, values = "kind = ?", [kind]
        if owner is not None:
            where += " and owner = ?"
            values.append(owner)
        if after is not None:
            where += " and (created, id) < (select created, id from documents where kind = ? and id = ?)"
            values += [kind, after]
        asked = f"select text from documents where {where} and expires is null order by created desc, id desc limit ?"  # noqa: S608 - constants
        rows = await self._database.read(lambda on: on.execute(asked, (*values, limit)).fetchall())
        return [str(text) for (text,) in rows]

    async def delete(self, kind: str, id_: str) -> bool:
        gone = "delete from documents where kind = ? and id = ?"
        return await self._database.write(lambda on: on.execute(gone, (kind, id_)).rowcount == 1)


_INTO = "into documents (kind, id, owner, created, expires, text) values (?, ?, ?, ?, ?, ?)"
_ALIVE = "(expires is null or expires > ?)"


def _get(on: sqlite3.Connection, kind: str, id_: str) -> str | None:
    asked = f"select text from documents where kind = ? and id = ? and {_ALIVE}"  # noqa: S608 - constants
    row = on.execute(asked, (kind, id_, time.time())).fetchone()
    return None if row is None else str(row[0])
