"""API keys: who may call, for what, and how much. The key itself is shown once and kept nowhere."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from api.store import Key, Store
from eot.errors import InputError, UnknownNameError

Scope = Literal["chat", "batch", "admin"]
"""What a key may do: ask; files and batches; read the server's metrics, and all that the others may."""

SCOPES: tuple[str, ...] = get_args(Scope)
_TRUSTED_SECONDS = 2.0
"""How long a look into the store is believed: that soon a revoked key is refused everywhere."""
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request. `id` owns what the request makes; "" is anyone on this machine, while no key exists."""

    id: str = ""
    name: str = ""
    scopes: tuple[str, ...] = SCOPES
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_usd: float | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


ANYONE = Caller()


def hashed(key: str) -> str:
    """A fast hash is right here: a key is 256 random bits, which nobody guesses however fast the guessing is."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Keyring:
    """The keys in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, tuple[float, Key | None]] = {}
        self._any: tuple[float, bool] = (float("-inf"), False)

    async def create(
        self,
        name: str,
        scopes: Iterable[str] = ("chat",),
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        max_usd: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key; its description, and the key itself, which cannot be had again.

        Raises:
            InputError: there is no such scope, or a cap is not above 0.
        """
        wanted = tuple(dict.fromkeys(scopes))
        for scope in wanted:
            if scope not in SCOPES:
                raise UnknownNameError("scope", scope, SCOPES)
        caps = {"requests-per-minute": requests_per_minute, "tokens-per-minute": tokens_per_minute, "max-usd": max_usd}
        for cap, value in caps.items():
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"--{cap}: read {value:g}; write a number above 0, or leave it out for no cap")
        id_ = secrets.token_hex(6)
        key = f"sk-eot-{id_}-{secrets.token_urlsafe(32)}"
        row = Key(
            id=id_,
            name=name,
            hash=hashed(key),
            scopes=wanted or ("chat",),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_usd=max_usd,
        )
        await self._store.keys.save(row)
        return row, key

    async def all(self) -> list[Key]:
        """Every key that was ever made, newest first; revoked ones too."""
        return await self._store.keys.page(None, 10_000)

    async def revoke(self, id_: str) -> Key:
        """Refuse this key from now on. What it owns stays its own.

        Raises:
            UnknownNameError: there is no key with that id.
        """

        def step(key: Key) -> Key:
            return key if key.revoked else key.model_copy(update={"revoked": time.time()})

        revoked = await self._store.keys.change(id_, step)
        if revoked is None:
            raise UnknownNameError("key", id_, [key.id for key in await self.all()])
        return revoked

    async def caller(self, key: str) -> Caller | None:
        """Who holds this key; None if nobody does, or not any more."""
        parts = key.split("-", 3)
        row = await self.row(parts[2]) if len(parts) == 4 and len(parts[2]) <= 64 else None
        right = hmac.compare_digest(hashed(key), row.hash if row else _NOBODY)
        return caller_of(row) if right and row and not row.revoked else None

    async def row(self, id_: str) -> Key | None:
        """A key's description, as it was at most two seconds ago."""
        now = time.monotonic()
        seen = self._seen.get(id_)
        if seen is None or now - seen[0] > _TRUSTED_SECONDS:
            seen = (now, await self._store.keys.load(id_))
            self._seen = {name: entry for name, entry in self._seen.items() if now - entry[0] <= _TRUSTED_SECONDS}
            self._seen[id_] = seen
        return seen[1]

    async def exist(self) -> bool:
        """Whether a key was ever made. A revoked one counts: to revoke the last one must not open the doors."""
        now = time.monotonic()
        if not self._any[1] and now - self._any[0] > _TRUSTED_SECONDS:
            self._any = (now, bool(await self._store.keys.page(None, 1)))
        return self._any[1]

    async def spent(self, id_: str) -> float:
        """Dollars that this key has spent in all."""
        return await self._store.counters.total(spent_key(id_))


def caller_of(key: Key) -> Caller:
    return Caller(
        id=key.id,
        name=key.name,
        scopes=key.scopes,
        requests_per_minute=key.requests_per_minute,
        tokens_per_minute=key.tokens_per_minute,
        max_usd=key.max_usd,
    )


def spent_key(id_: str) -> str:
    return f"key:{id_}:usd"
