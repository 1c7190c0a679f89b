"""Batch items in Redis. An outcome is committed by a script that first takes the item off the list of what is left."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from api.store.redis_once import Once
from api.store.rows import Counts, Finished, Item, Outcome, spent_by

_PARTS = ("todo", "ended", "names", "ids", "requests", "outcomes", "counts", "booked")

_ADD = """
local todo, ids, names, requests, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local twice, added = {}, 0
for at = 1, #ARGV, 3 do
    local line, name, request = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local holder = redis.call('HGET', ids, name)
    if not holder then
        redis.call('HSET', ids, name, line)
        redis.call('HSET', names, line, name)
        redis.call('HSET', requests, line, request)
        redis.call('ZADD', todo, line, line)
        added = added + 1
    elseif holder ~= line then
        twice[#twice + 1] = tonumber(line)
    end
end
redis.call('HINCRBY', counts, 'total', added)
return twice
"""
_BOOK = """
local todo, counts, booked = KEYS[1], KEYS[2], KEYS[3]
local line, calls, cap = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('HEXISTS', booked, line) == 1 then return 1 end
local spent = tonumber(redis.call('HGET', counts, 'calls')) or 0
local others = tonumber(redis.call('HGET', booked, 'all')) or 0
if spent + others + calls > cap or not redis.call('ZSCORE', todo, line) then return 0 end
redis.call('HSET', booked, line, calls)
redis.call('HINCRBY', booked, 'all', calls)
return 1
"""
# An outcome is kept with the token of the write that brought it: sent again, it is known as the same.
_FINISH = """
local todo, ended, outcomes, requests, counts, booked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local line, ok, body, window, token = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local won, following = redis.call('ZREM', todo, line), -1
if won == 1 then
    redis.call('HSET', outcomes, line, ok .. token .. body)
    redis.call('ZADD', ended, line, line)
    redis.call('HDEL', requests, line)
    redis.call('HINCRBY', counts, ok == '1' and 'completed' or 'failed', 1)
    for at = 6, #ARGV, 2 do
        redis.call('HINCRBYFLOAT', counts, ARGV[at], ARGV[at + 1])
    end
    local calls = redis.call('HGET', booked, line)
    if calls then
        redis.call('HDEL', booked, line)
        redis.call('HINCRBY', booked, 'all', -calls)
    end
elseif string.sub(redis.call('HGET', outcomes, line) or '', 2, 1 + #token) == token then
    won = 1
end
if won == 1 and window > 0 then
    following = tonumber(redis.call('ZRANGE', todo, window - 1, window - 1)[1]) or -1
end
return {won, following, redis.call('ZCARD', todo)}
"""
_FINISH_REST = """
local todo, ended, outcomes, requests, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ok, body, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lines = redis.call('ZRANGE', todo, 0, limit - 1)
for _, line in ipairs(lines) do
    redis.call('ZREM', todo, line)
    redis.call('HSET', outcomes, line, ok .. ARGV[4] .. body)
    redis.call('ZADD', ended, line, line)
    redis.call('HDEL', requests, line)
end
redis.call('HINCRBY', counts, ok == '1' and 'completed' or 'failed', #lines)
return #lines
"""
_CHUNK = 500
_TOKEN = 16
"""Characters of a write's token in a kept outcome, between `ok` and the body."""


class RedisItems:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._add, self._finish = client.register_script(_ADD), client.register_script(_FINISH)
        self._book, self._finish_rest = client.register_script(_BOOK), Once(client, _FINISH_REST)

    async def add(self, batch: str, items: Sequence[Item]) -> list[int]:
        keys = [_key(batch, part) for part in ("todo", "ids", "names", "requests", "counts")]
        twice: list[int] = []
        for at in range(0, len(items), _CHUNK):
            args = [value for item in items[at : at + _CHUNK] for value in (item.line, item.custom_id, item.request)]
            twice += await self._add(keys=keys, args=args)
        return twice

    async def load(self, batch: str, line: int) -> Item | None:
        async with self._client.pipeline(transaction=True) as steps:
            steps.hget(_key(batch, "requests"), line)
            steps.hget(_key(batch, "names"), line)
            request, name = await steps.execute()
        return None if request is None else Item(line=line, custom_id=name, request=request)

    async def window(self, batch: str, size: int) -> list[int]:
        return [int(line) for line in await self._client.zrange(_key(batch, "todo"), 0, size - 1)]

    async def book(self, batch: str, line: int, calls: int, cap: int) -> bool:
        keys = [_key(batch, part) for part in ("todo", "counts", "booked")]
        return bool(await self._book(keys=keys, args=[line, calls, cap]))

    async def finish(self, batch: str, outcome: Outcome, window: int = 0) -> Finished:
        spent = [word for name, amount in spent_by(outcome.usage).items() if amount for word in (name, amount)]
        args = [outcome.line, int(outcome.ok), outcome.body, window, _token(), *spent]
        won, following, left = await self._finish(keys=_ending(batch), args=args)
        return Finished(won=bool(won), next_line=following if following >= 0 else None, left=left)

    async def finish_rest(self, batch: str, ok: bool, body: str, limit: int) -> int:  # noqa: FBT001 - as in Outcome
        changed = 0
        while changed < limit:
            wanted = min(_CHUNK, limit - changed)
            ended = await self._finish_rest(_ending(batch), [int(ok), body, wanted, _token()])
            changed += ended
            if ended < wanted:
                break
        return changed

    async def outcomes(self, batch: str, after: int, limit: int) -> list[tuple[Outcome, str]]:
        lines = await self._client.zrangebyscore(_key(batch, "ended"), f"({after}", "+inf", start=0, num=limit)
        if not lines:
            return []
        async with self._client.pipeline(transaction=False) as steps:
            steps.hmget(_key(batch, "outcomes"), lines)
            steps.hmget(_key(batch, "names"), lines)
            bodies, names = await steps.execute()
        return [
            (Outcome(line=int(line), ok=body[0] == "1", body=body[1 + _TOKEN :]), name)
            for line, body, name in zip(lines, bodies, names, strict=True)
        ]

    async def counts(self, batch: str) -> Counts:
        return Counts(**await self._client.hgetall(_key(batch, "counts")))

    async def drop(self, batch: str) -> None:
        await self._client.unlink(*(_key(batch, part) for part in _PARTS))


def _ending(batch: str) -> list[str]:
    return [_key(batch, part) for part in ("todo", "ended", "outcomes", "requests", "counts", "booked")]


def _token() -> str:
    return uuid.uuid4().hex[:_TOKEN]


def _key(batch: str, part: str) -> str:
    return f"eot:items:{batch}:{part}"
