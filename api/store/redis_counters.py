"""Shared numbers in Redis: token buckets and running totals. The clock is the server's."""

from __future__ import annotations

from typing import Any

from api.store.redis_once import Once
from api.store.rows import Level

# Lua cuts fractions off when it answers with numbers: they go out as text.
_TAKE = """
local amount, rate, force = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(kept[1]) or rate, tonumber(kept[2]) or now
level = math.min(rate, level + math.max(0, now - at) * rate / 60)
local missing = math.max(0, amount + tonumber(ARGV[4]) - level)
local taken = force or missing == 0
if taken then level = math.min(rate, level - amount) end
redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level), 'at', string.format('%.17g', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(60000 * (1 + math.max(0, -level) / rate)))
return {taken and 1 or 0, string.format('%.17g', level), string.format('%.17g', 60 * missing / rate)}
"""
_ADD = """
return redis.call('HINCRBYFLOAT', KEYS[1], '', ARGV[1])
"""


class RedisCounters:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._take, self._add = Once(client, _TAKE), Once(client, _ADD)

    async def take(
        self, key: str, amount: float, per_minute: float, *, force: bool = False, leave: float = 0.0
    ) -> Level:
        args = [amount, per_minute, int(force), leave]
        taken, remaining, wait = await self._take([f"eot:bucket:{key}"], args)
        return Level(taken=bool(taken), remaining=float(remaining), wait=float(wait))

    async def add(self, key: str, amount: float) -> float:
        return float(await self._add([f"eot:sum:{key}"], [amount]))

    async def total(self, key: str) -> float:
        return float(await self._client.hget(f"eot:sum:{key}", "") or 0)
