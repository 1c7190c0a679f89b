"""Writes that may be sent twice and are done once.

A client whose connection breaks cannot tell whether its command was done, and sends it again. So each write carries a
token of its own: Redis keeps what the write gave under that token for a while, and tells it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

_KEPT_MS = 180_000
"""Longer than a command is tried again: four times the socket's patience, and the waits between."""

_ONCE = """
local function step()
{step}
end
local token = KEYS[#KEYS]
local given = redis.call('GET', token)
if given then return cmsgpack.unpack(given) end
local result = step()
redis.call('SET', token, cmsgpack.pack(result), 'PX', '{kept}')
return result
"""


class Once:
    """A script for Redis. Calling it is one write, however often it is sent; `nil` is no result that it can have."""

    def __init__(self, client: Any, step: str) -> None:
        self._script = client.register_script(_ONCE.replace("{step}", step).replace("{kept}", str(_KEPT_MS)))

    async def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self._script(keys=[*keys, f"eot:once:{uuid.uuid4().hex}"], args=args)
