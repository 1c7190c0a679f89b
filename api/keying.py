"""What `eot keys` does."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.keys import Keyring
from api.store import STORE_FAULTS, Key, open_store
from eot.errors import InputError
from eot.settings import Settings, load
from eot.text import clean

T = TypeVar("T")
_STORE_PATIENCE = 10.0


def create_key(name: str, scopes: list[str], caps: Mapping[str, Any], config: Path | None, *, as_json: bool) -> None:
    """Make a key and print it, this once.

    Raises:
        InputError: a scope, a cap or the name is wrong.
    """
    if not name.strip() or len(name) > 100 or clean(name) != name:
        raise InputError("a key's name is 1 to 100 printable characters")
    row, key = with_keys(load(config), lambda keyring: keyring.create(name, scopes, **caps))
    if as_json:
        sys.stdout.write(json.dumps(_told(row) | {"key": key}) + "\n")
        return
    sys.stdout.write(key + "\n")
    sys.stderr.write(f"the key {row.id} ({', '.join(row.scopes)}) for {name}: it is not shown again\n")


def list_keys(config: Path | None, *, as_json: bool) -> None:
    async def look(keyring: Keyring) -> list[tuple[Key, float]]:
        return [(key, await keyring.spent(key.id)) for key in await keyring.all()]

    found = with_keys(load(config), look)
    if as_json:
        sys.stdout.write(json.dumps([_told(key) | {"spent_usd": spent} for key, spent in found]) + "\n")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("id", "name", "scopes", "requests/min", "tokens/min", "dollars", "spent", "made", ""):
        table.add_column(title, overflow="fold", no_wrap=title == "id")  # whatever the width: ids are for copying
    for key, spent in found:
        caps = [_cap(cap) for cap in (key.requests_per_minute, key.tokens_per_minute, key.max_usd)]
        state = "revoked" if key.revoked else ""
        cells = [key.id, key.name, ", ".join(key.scopes), *caps, f"{spent:.4f}", _day(key.created), state]
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)


def revoke_key(id_: str, config: Path | None, *, as_json: bool) -> None:
    """Refuse a key from now on.

    Raises:
        UnknownNameError: there is no such key.
    """
    row = with_keys(load(config), lambda keyring: keyring.revoke(id_))
    sys.stdout.write(json.dumps(_told(row)) + "\n" if as_json else f"revoked {row.id} ({row.name})\n")


def with_keys(settings: Settings, step: Callable[[Keyring], Awaitable[T]]) -> T:
    """What `step` makes of the keys in the store.

    Raises:
        InputError: the store does not answer.
    """

    async def stepped() -> T:
        store = open_store(settings.serve.store, settings.home)
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                return await step(Keyring(store))
        except (*STORE_FAULTS, TimeoutError) as fault:
            where = "at the address of serve.store" if settings.serve.store else f"in {settings.home}"
            raise InputError(f"the store {where} does not answer: {type(fault).__name__}") from None
        finally:
            await store.close()

    return asyncio.run(stepped())


def _told(key: Key) -> dict[str, Any]:
    return key.model_dump(exclude={"hash", "owner"})


def _cap(cap: float | None) -> str:
    return "-" if cap is None else f"{cap:,}"


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
