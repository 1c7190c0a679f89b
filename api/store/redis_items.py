"""Batch items in Redis. An outcome is committed by a script that first takes the item off the list of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.store.rows import Counts, Finished, Item, Outcome, spent_by

_PARTS = ("todo", "ended", "names", "ids", "requests", "outcomes", "counts")

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
_FINISH = """
local todo, ended, outcomes, requests, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local line, ok, body, window = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local won, following = redis.call('ZREM', todo, line), -1
if won == 1 then
    redis.call('HSET', outcomes, line, ok .. body)
    redis.call('ZADD', ended, line, line)
    redis.call('HDEL', requests, line)
    redis.call('HINCRBY', counts, ok == '1' and 'completed' or 'failed', 1)
    for at = 5, #ARGV, 2 do
        redis.call('HINCRBYFLOAT', counts, ARGV[at], ARGV[at + 1])
    end
    if window > 0 then
        following = tonumber(redis.call('ZRANGE', todo, window - 1, window - 1)[1]) or -1
    end
end
return {won, following, redis.call('ZCARD', todo)}
"""
_FINISH_REST = """
local todo, ended, outcomes, requests, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ok, body, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local lines = redis.call('ZRANGE', todo, 0, limit - 1)
for _, line in ipairs(lines) do
    redis.call('ZREM', todo, line)
    redis.call('HSET', outcomes, line, ok .. body)
    redis.call('ZADD', ended, line, line)
    redis.call('HDEL', requests, line)
end
redis.call('HINCRBY', counts, ok == '1' and 'completed' or 'failed', #lines)
return #lines
"""
_CHUNK = 500


class RedisItems:
    def __init__(self, client: Any) -> None:
        self._client = client
        self._add, self._finish = client.register_script(_ADD), client.register_script(_FINISH)
        self._finish_rest = client.register_script(_FINISH_REST)

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

    async def finish(self, batch: str, outcome: Outcome, window: int = 0) -> Finished:
        spent = [word for name, amount in spent_by(outcome.usage).items() if amount for word in (name, amount)]
        args = [outcome.line, int(outcome.ok), outcome.body, window, *spent]
        won, following, left = await self._finish(keys=_ending(batch), args=args)
        return Finished(won=bool(won), next_line=following if following >= 0 else None, left=left)

    async def finish_rest(self, batch: str, ok: bool, body: str, limit: int) -> int:  # noqa: FBT001 - as in Outcome
        changed = 0
        while changed < limit:
            wanted = min(_CHUNK, limit - changed)
            ended = await self._finish_rest(keys=_ending(batch), args=[int(ok), body, wanted])
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
            (Outcome(line=int(line), ok=body[0] == "1", body=body[1:]), name)
            for line, body, name in zip(lines, bodies, names, strict=True)
        ]

    async def counts(self, batch: str) -> Counts:
        return Counts(**await self._client.hgetall(_key(batch, "counts")))

    async def drop(self, batch: str) -> None:
        await self._client.unlink(*(_key(batch, part) for part in _PARTS))


def _ending(batch: str) -> list[str]:
    return [_key(batch, part) for part in ("todo", "ended", "outcomes", "requests", "counts")]


def _key(batch: str, part: str) -> str:
    return f"eot:items:{batch}:{part}"
