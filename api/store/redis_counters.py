"""Shared numbers in Redis: token buckets, running totals, bookings against a cap. The clock is the server's."""

from __future__ import annotations

from typing import Any

from api.store.rows import Level

# Lua cuts fractions off when it answers with numbers: they go out as text.
_TAKE = """
local amount, rate, force = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(kept[1]) or rate, tonumber(kept[2]) or now
level = math.min(rate, level + math.max(0, now - at) * rate / 60)
local taken, missing = force or level >= amount, math.max(0, amount - level)
if taken then level = math.min(rate, level - amount) end
redis.call('HSET', KEYS[1], 'level', string.format('%.17g', level), 'at', string.format('%.17g', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(60000 * (1 + math.max(0, -level) / rate)))
return {taken and 1 or 0, string.format('%.17g', level), string.format('%.17g', 60 * missing / rate)}
"""
_RESERVE = """
if redis.call('HEXISTS', KEYS[1], '/' .. ARGV[1]) == 1 then return 1 end
if (tonumber(redis.call('HGET', KEYS[1], '')) or 0) + ARGV[2] > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], '/' .. ARGV[1], ARGV[2])
redis.call('HINCRBYFLOAT', KEYS[1], '', ARGV[2])
return 1
"""
_SETTLE = """
local booked = tonumber(redis.call('HGET', KEYS[1], '/' .. ARGV[1])) or 0
redis.call('HSET', KEYS[1], '/' .. ARGV[1], ARGV[2])
return redis.call('HINCRBYFLOAT', KEYS[1], '', string.format('%.17g', ARGV[2] - booked))
"""


class RedisCounters:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._take, self._reserve = client.register_script(_TAKE), client.register_script(_RESERVE)
        self._settle = client.register_script(_SETTLE)

    async def take(self, key: str, amount: float, per_minute: float, *, force: bool = False) -> Level:
        taken, remaining, wait = await self._take(keys=[f"eot:bucket:{key}"], args=[amount, per_minute, int(force)])
        return Level(taken=bool(taken), remaining=float(remaining), wait=float(wait))

    async def add(self, key: str, amount: float) -> float:
        return float(await self._client.hincrbyfloat(_sum(key), "", amount))

    async def reserve(self, key: str, slot: str, amount: float, cap: float) -> bool:
        return bool(await self._reserve(keys=[_sum(key)], args=[slot, amount, cap]))

    async def settle(self, key: str, slot: str, amount: float) -> float:
        return float(await self._settle(keys=[_sum(key)], args=[slot, amount]))

    async def forget(self, key: str) -> None:
        await self._client.delete(_sum(key))


def _sum(key: str) -> str:
    return f"eot:sum:{key}"
