"""Paid calls in Redis: what one worker paid for, every other worker recalls."""

from __future__ import annotations

import asyncio
import json
from weakref import WeakValueDictionary

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from agents.store import CallKey

_PATIENCE = 15.0

_PUT = """
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if not kept or kept == ARGV[3] then
    kept = ARGV[2]
    redis.call('HSET', KEYS[1], ARGV[1], kept)
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return kept
"""


class RedisCallStore:
    """Replies by key, as JSON, for some days after a run's last one. Blocking, as `CallStore` is: use a thread."""

    faults: tuple[type[Exception], ...] = (RedisError, OSError)

    def __init__(self, url: str, retries: int = 12, kept_days: float = 30.0) -> None:
        """A reply that was paid for waits for a Redis that restarts: twelve retries take about eight seconds."""
        retry = Retry(ExponentialWithJitterBackoff(cap=1.0, base=0.05), retries)
        self._kept_seconds = round(kept_days * 86_400)
        self._client = redis.Redis.from_url(url, socket_timeout=_PATIENCE, retry=retry, decode_responses=True)
        self._put = self._client.register_script(_PUT)
        self._asking = WeakValueDictionary[CallKey, asyncio.Lock]()

    def find(self, key: CallKey) -> str | None:
        found = self._client.hget(_run(key), _field(key))
        return None if found is None else str(found)

    def put(self, key: CallKey, reply: str, instead_of: str | None = None) -> str:
        return str(self._put(keys=[_run(key)], args=[_field(key), reply, instead_of or "", self._kept_seconds]))

    def asking(self, key: CallKey) -> asyncio.Lock:
        return self._asking.setdefault(key, asyncio.Lock())

    def prune(self, before: float) -> int:
        """Nothing is left to be done: Redis forgets by itself."""
        del before
        return 0

    def close(self) -> None:
        self._client.close()


def _run(key: CallKey) -> str:
    return f"eot:calls:{key.run_id}"


def _field(key: CallKey) -> str:
    return json.dumps([key.agent, key.round, key.digest])
