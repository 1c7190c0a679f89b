"""Shared numbers in SQLite: token buckets and running totals."""

from __future__ import annotations

import sqlite3
import time

from api.store.rows import Level
from api.store.sqlite_database import Database


class SqliteCounters:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self, key: str, amount: float, per_minute: float, *, force: bool = False, leave: float = 0.0
    ) -> Level:
        def step(on: sqlite3.Connection) -> Level:
            now, row = time.time(), on.execute("select level, at from buckets where key = ?", (key,)).fetchone()
            level, at = row or (per_minute, now)
            level = min(per_minute, level + max(0.0, now - at) * per_minute / 60)
            missing = max(0.0, amount + leave - level)
            taken = force or not missing
            level = min(per_minute, level - amount) if taken else level
            on.execute("replace into buckets (key, level, at) values (?, ?, ?)", (key, level, now))
            return Level(taken=taken, remaining=level, wait=60 * missing / per_minute)

        return await self._database.write(step)

    async def add(self, key: str, amount: float) -> float:
        return await self._database.write(lambda on: _add(on, key, amount))

    async def total(self, key: str) -> float:
        asked = "select amount from sums where key = ? and slot = ''"
        row = await self._database.read(lambda on: on.execute(asked, (key,)).fetchone())
        return float(row[0]) if row else 0.0


def _add(on: sqlite3.Connection, key: str, amount: float) -> float:
    put = (
        "insert into sums (key, slot, amount) values (?, '', ?)"
        " on conflict do update set amount = amount + excluded.amount returning amount"
    )
    return float(on.execute(put, (key, amount)).fetchone()[0])
