"""Shared numbers in SQLite: token buckets, running totals, bookings against a cap."""

from __future__ import annotations

import sqlite3
import time

from api.store.rows import Level
from api.store.sqlite_database import Database


class SqliteCounters:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, key: str, amount: float, per_minute: float, *, force: bool = False) -> Level:
        def step(on: sqlite3.Connection) -> Level:
            now, row = time.time(), on.execute("select level, at from buckets where key = ?", (key,)).fetchone()
            level, at = row or (per_minute, now)
            level = min(per_minute, level + max(0.0, now - at) * per_minute / 60)
            taken = force or level >= amount
            missing = max(0.0, amount - level)
            level = min(per_minute, level - amount) if taken else level
            on.execute("replace into buckets (key, level, at) values (?, ?, ?)", (key, level, now))
            return Level(taken=taken, remaining=level, wait=60 * missing / per_minute)

        return await self._database.write(step)

    async def add(self, key: str, amount: float) -> float:
        return await self._database.write(lambda on: _add(on, key, amount))

    async def reserve(self, key: str, slot: str, amount: float, cap: float) -> bool:
        def step(on: sqlite3.Connection) -> bool:
            if on.execute("select 1 from sums where key = ? and slot = ?", (key, f"/{slot}")).fetchone():
                return True
            if _add(on, key, 0.0) + amount > cap:
                return False
            _book(on, key, slot, amount)
            return True

        return await self._database.write(step)

    async def settle(self, key: str, slot: str, amount: float) -> float:
        return await self._database.write(lambda on: _book(on, key, slot, amount))

    async def forget(self, key: str) -> None:
        await self._database.write(lambda on: on.execute("delete from sums where key = ?", (key,)))


def _add(on: sqlite3.Connection, key: str, amount: float) -> float:
    """The total of a name is its slot ""; bookings lie in slots that begin with a stroke."""
    put = (
        "insert into sums (key, slot, amount) values (?, '', ?)"
        " on conflict do update set amount = amount + excluded.amount returning amount"
    )
    return float(on.execute(put, (key, amount)).fetchone()[0])


def _book(on: sqlite3.Connection, key: str, slot: str, amount: float) -> float:
    row = on.execute("select amount from sums where key = ? and slot = ?", (key, f"/{slot}")).fetchone()
    on.execute("replace into sums (key, slot, amount) values (?, ?, ?)", (key, f"/{slot}", amount))
    return _add(on, key, amount - (row[0] if row else 0.0))
