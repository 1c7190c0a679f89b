"""Batch items in SQLite. An outcome is committed by an update that finds only items without one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from api.store.rows import Counts, Finished, Item, Outcome, spent_by
from api.store.sqlite_database import Database
from eot.types import Usage

_COUNTED = tuple(Counts.model_fields)
_SPENT = tuple(spent_by(Usage()))


class SqliteItems:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, batch: str, items: Sequence[Item]) -> list[int]:
        rows = [(batch, item.line, item.custom_id, item.request) for item in items]
        return await self._database.write(lambda on: _add(on, batch, rows))

    async def load(self, batch: str, line: int) -> Item | None:
        asked = "select line, custom_id, request from items where batch = ? and line = ? and ok is null"
        row = await self._database.read(lambda on: on.execute(asked, (batch, line)).fetchone())
        return None if row is None else Item(line=row[0], custom_id=row[1], request=row[2])

    async def window(self, batch: str, size: int) -> list[int]:
        asked = "select line from items where batch = ? and ok is null order by line limit ?"
        rows = await self._database.read(lambda on: on.execute(asked, (batch, size)).fetchall())
        return [line for (line,) in rows]

    async def book(self, batch: str, line: int, calls: int, cap: int) -> bool:
        return await self._database.write(lambda on: _book(on, batch, line, calls, cap))

    async def finish(self, batch: str, outcome: Outcome, window: int = 0) -> Finished:
        return await self._database.write(lambda on: _finish(on, batch, outcome, window))

    async def finish_rest(self, batch: str, ok: bool, body: str, limit: int) -> int:  # noqa: FBT001 - as in Outcome
        def step(on: sqlite3.Connection) -> int:
            first = "select line from items where batch = ? and ok is null order by line limit ?"
            change = f"update items set ok = ?, body = ? where batch = ? and line in ({first})"  # noqa: S608 - constants
            changed = on.execute(change, (ok, body, batch, batch, limit)).rowcount
            _count(on, batch, ok=ok, by=changed, usage=Usage())
            return changed

        return await self._database.write(step)

    async def outcomes(self, batch: str, after: int, limit: int) -> list[tuple[Outcome, str]]:
        asked = (
            "select line, ok, body, custom_id from items where batch = ? and line > ? and ok is not null"
            " order by line limit ?"
        )
        rows = await self._database.read(lambda on: on.execute(asked, (batch, after, limit)).fetchall())
        return [(Outcome(line=line, ok=bool(ok), body=body), name) for line, ok, body, name in rows]

    async def counts(self, batch: str) -> Counts:
        return await self._database.read(lambda on: _counts(on, batch))

    async def drop(self, batch: str) -> None:
        def step(on: sqlite3.Connection) -> None:
            for table in ("items", "tallies", "bookings"):
                on.execute(f"delete from {table} where batch = ?", (batch,))  # noqa: S608 - constants

        await self._database.write(step)


def _add(on: sqlite3.Connection, batch: str, rows: list[tuple[str, int, str, str]]) -> list[int]:
    before = on.total_changes
    on.executemany("insert or ignore into items (batch, line, custom_id, request) values (?, ?, ?, ?)", rows)
    added = on.total_changes - before
    tally = "insert into tallies (batch, total) values (?, ?) on conflict do update set total = total + excluded.total"
    on.execute(tally, (batch, added))
    if added == len(rows):
        return []
    named = "select line from items where batch = ? and custom_id = ?"
    return [line for _, line, name, _ in rows if on.execute(named, (batch, name)).fetchone() != (line,)]


def _book(on: sqlite3.Connection, batch: str, line: int, calls: int, cap: int) -> bool:
    one = (batch, line)
    if on.execute("select 1 from bookings where batch = ? and line = ?", one).fetchone():
        return True
    others = on.execute("select total(calls) from bookings where batch = ?", (batch,)).fetchone()[0]
    left = on.execute("select 1 from items where batch = ? and line = ? and ok is null", one).fetchone()
    if not left or _counts(on, batch).calls + others + calls > cap:
        return False
    on.execute("insert into bookings (batch, line, calls) values (?, ?, ?)", (*one, calls))
    return True


def _finish(on: sqlite3.Connection, batch: str, outcome: Outcome, window: int) -> Finished:
    change = "update items set ok = ?, body = ? where batch = ? and line = ? and ok is null"
    won = on.execute(change, (outcome.ok, outcome.body, batch, outcome.line)).rowcount == 1
    if won:
        _count(on, batch, ok=outcome.ok, by=1, usage=outcome.usage)
        on.execute("delete from bookings where batch = ? and line = ?", (batch, outcome.line))
    last = "select line from items where batch = ? and ok is null order by line limit 1 offset ?"
    row = on.execute(last, (batch, window - 1)).fetchone() if won and window else None
    return Finished(won=won, next_line=row[0] if row else None, left=_counts(on, batch).left)


def _count(on: sqlite3.Connection, batch: str, *, ok: bool, by: int, usage: Usage) -> None:
    column = "completed" if ok else "failed"
    spent = ", ".join(f"{name} = {name} + ?" for name in _SPENT)
    change = f"update tallies set {column} = {column} + ?, {spent} where batch = ?"  # noqa: S608 - constants
    on.execute(change, (by, *spent_by(usage).values(), batch))


def _counts(on: sqlite3.Connection, batch: str) -> Counts:
    row = on.execute(f"select {', '.join(_COUNTED)} from tallies where batch = ?", (batch,)).fetchone()  # noqa: S608 - constants
    return Counts(**dict(zip(_COUNTED, row, strict=True))) if row else Counts()
