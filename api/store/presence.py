"""Which processes on one store live: each counts up under its own name, and the others look whether it still does.

No clock is compared with another's, so one that is set wrong, or jumps, takes nobody's work away.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable

from api.store.protocol import Documents

_KEPT_SECONDS = 86_400.0
"""After so long without a beat the store forgets a process's name."""


class Presence:
    """One process's own name, and its view of the others.

    A process is gone when its count has stood still for `patience` looks in a row. A store that was away, or stood
    still itself, cannot be looked at: what it was then counts for nobody's death.
    """

    def __init__(self, documents: Documents, patience: int) -> None:
        self.me = uuid.uuid4().hex
        self._documents, self._patience, self._beats = documents, patience, 0
        self._seen: dict[str, tuple[str | None, int]] = {}

    async def beat(self) -> None:
        """Say that this process lives."""
        self._beats += 1
        await self._documents.put("process", self.me, str(self._beats), expires=time.time() + _KEPT_SECONDS)

    async def gone(self, names: Iterable[str]) -> frozenset[str]:
        """Look once: those of these processes that live no more. Who is not named is forgotten."""
        seen = {name: await self._documents.get("process", name) for name in set(names) - {self.me}}
        self._seen = {name: (count, self._still(name, count)) for name, count in seen.items()}
        return frozenset(name for name, (_, still) in self._seen.items() if still >= self._patience)

    def _still(self, name: str, count: str | None) -> int:
        before, still = self._seen.get(name, ("", 0))
        return still + 1 if before == count and name in self._seen else 0


class Leadership:
    """A task that one process of all has at a time. Ask for it once a look; it goes to another when its holder dies."""

    def __init__(self, documents: Documents, task: str, patience: int) -> None:
        self._documents, self._task = documents, task
        self._presence = Presence(documents, patience)
        self.mine = False

    async def look(self) -> bool:
        """Whether the task is this process's own."""
        me, holder = self._presence.me, await self._documents.get("leader", self._task)
        if holder is None:
            holder = await self._documents.put_new("leader", self._task, me, expires=_FAR) or me
        elif holder != me and (not holder or await self._presence.gone([holder])):
            holder = me if await self._documents.swap("leader", self._task, holder, me) else holder
        self.mine = holder == me
        if self.mine:
            await self._presence.beat()
        return self.mine

    async def leave(self) -> None:
        """Let another have it at once."""
        if self.mine:
            self.mine = False
            await self._documents.swap("leader", self._task, self._presence.me, "")


_FAR = 4_102_444_800.0
"""The year 2100: what expires stands in no list."""
