"""The store in Redis 6.2 or newer, or Valkey: core commands and small scripts only. For many machines."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from api.store.redis_counters import RedisCounters
from api.store.redis_items import RedisItems
from api.store.redis_once import Once
from eot.errors import SettingsError

_CONNECTIONS = 64
_PATIENCE = 15.0
"""Seconds for one command: longer than Redis stands still in a failover or a rewrite of its file."""
_TRIES_AGAIN = 3
"""A command that was perhaps done is sent again: every write here is one that may be (`redis_once.py`)."""
_A_DAY = 86_400


class RedisBackend:
    def __init__(self, url: str) -> None:
        """Raises SettingsError where that is no address of a Redis. Nothing is connected yet."""
        self._texts, self._bytes = _client(url, texts=True), _client(url, texts=False)
        self.documents = RedisDocuments(self._texts)
        self.items = RedisItems(self._texts)
        self.counters = RedisCounters(self._texts)
        self.blobs = RedisBlobs(self._bytes)

    async def ping(self) -> None:
        await self.counters.add("ping", 1)

    async def close(self) -> None:
        await self._texts.aclose()
        await self._bytes.aclose()


def _client(url: str, *, texts: bool) -> Any:
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_PATIENCE,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            decode_responses=texts,
            retry=Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), _TRIES_AGAIN),
        )
    except (ValueError, RedisError) as fault:
        said = f"serve.store: not an address of Redis ({type(fault).__name__}); write redis://HOST:PORT/0"
        raise SettingsError(said) from None  # its words may quote a password
    return redis.asyncio.Redis.from_pool(pool)


_PUT = """
redis.call('HSET', KEYS[1], 'text', ARGV[1], 'owner', ARGV[2])
if ARGV[5] ~= '' then
    redis.call('PEXPIREAT', KEYS[1], ARGV[5])
else
    redis.call('ZADD', KEYS[2], ARGV[3], ARGV[4])
    redis.call('ZADD', KEYS[3], ARGV[3], ARGV[4])
end
return false
"""
_PUT_NEW = f"""
local found = redis.call('HGET', KEYS[1], 'text')
if found then return found end
{_PUT}"""
_SWAP = """
if redis.call('HGET', KEYS[1], 'text') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'text', ARGV[2])
return 1
"""
_DELETE = """
local owner = redis.call('HGET', KEYS[1], 'owner') or ''
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[2] .. ARGV[2] .. owner, ARGV[1])
return redis.call('DEL', KEYS[1])
"""


class RedisDocuments:
    """Each is a hash of its text and owner; sorted sets by age list them, for each owner and for all."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._put, self._put_new = Once(client, _PUT), Once(client, _PUT_NEW)
        self._swap, self._delete = Once(client, _SWAP), Once(client, _DELETE)

    async def get(self, kind: str, id_: str) -> str | None:
        text: str | None = await self._client.hget(_document(kind, id_), "text")
        return text

    async def several(self, kind: str, ids: Sequence[str]) -> dict[str, str]:
        async with self._client.pipeline(transaction=False) as steps:
            for id_ in ids:
                steps.hget(_document(kind, id_), "text")
            texts = await steps.execute()
        return {id_: text for id_, text in zip(ids, texts, strict=True) if text is not None}

    async def put(
        self, kind: str, id_: str, text: str, *, owner: str = "", created: float = 0.0, expires: float | None = None
    ) -> None:
        await self._put(*_putting(kind, id_, text, owner, created, expires))

    async def put_new(
        self, kind: str, id_: str, text: str, *, owner: str = "", created: float = 0.0, expires: float | None = None
    ) -> str | None:
        standing: str | None = await self._put_new(*_putting(kind, id_, text, owner, created, expires))
        return standing

    async def swap(self, kind: str, id_: str, old: str, new: str) -> bool:
        return bool(await self._swap([_document(kind, id_)], [old, new]))

    async def page(self, kind: str, owner: str | None, limit: int, after: str | None = None) -> list[str]:
        index, first = _index(kind, owner), 0
        if after is not None:
            rank = await self._client.zrevrank(_index(kind, owner), after)
            if rank is None:
                return []
            first = rank + 1
        ids = await self._client.zrevrange(index, first, first + limit - 1)
        async with self._client.pipeline(transaction=False) as steps:
            for id_ in ids:
                steps.hget(_document(kind, id_), "text")
            return [text for text in await steps.execute() if text is not None]

    async def delete(self, kind: str, id_: str) -> bool:
        return bool(await self._delete([_document(kind, id_), _index(kind)], [id_, _OF]))


def _putting(
    kind: str, id_: str, text: str, owner: str, created: float, expires: float | None
) -> tuple[list[str], list[Any]]:
    keys = [_document(kind, id_), _index(kind), _index(kind, owner)]
    return keys, [text, owner, created, id_, "" if expires is None else round(expires * 1000)]


_APPEND = """
local there = redis.call('LLEN', KEYS[1])
if there == tonumber(ARGV[1]) then
    redis.call('RPUSH', KEYS[1], ARGV[2])
    redis.call('EXPIRE', KEYS[1], ARGV[3])
elseif there < tonumber(ARGV[1]) then
    return redis.error_reply('ERR a part of this file is gone')
end
return 1
"""
_REPLACE = """
if redis.call('EXISTS', KEYS[2]) == 0 then return redis.call('DEL', KEYS[1]) end
redis.call('RENAME', KEYS[2], KEYS[1])
return redis.call('PERSIST', KEYS[1])
"""


class RedisBlobs:
    """Each is a list of chunks, written under a passing name of its writer's own and renamed when it is whole."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._append, self._replace = client.register_script(_APPEND), Once(client, _REPLACE)

    async def write(self, id_: str, chunks: AsyncIterator[bytes]) -> int:
        made, count, size = f"{_blob(id_)}:made:{uuid.uuid4().hex}", 0, 0
        try:
            async for chunk in chunks:
                if chunk:  # each is put at its place: sent again it is there already
                    await self._append(keys=[made], args=[count, chunk, _A_DAY])
                    count, size = count + 1, size + len(chunk)
            await self._replace([_blob(id_), made], [])
        except BaseException:
            await self._client.delete(made)
            raise
        return size

    async def read(self, id_: str) -> AsyncIterator[bytes]:
        at = 0
        while chunks := await self._client.lrange(_blob(id_), at, at + 3):
            for chunk in chunks:
                yield chunk
            at += len(chunks)

    async def delete(self, id_: str) -> None:
        await self._client.delete(_blob(id_))


def _document(kind: str, id_: str) -> str:
    return f"eot:{kind}:{id_}"


def _index(kind: str, owner: str | None = None) -> str:
    return f"eot:{kind}s" if owner is None else f"eot:{kind}s{_OF}{owner}"


_OF = "-of:"


def _blob(id_: str) -> str:
    return f"eot:blob:{id_}"
