"""Fused sets that are asked for in passing: made when first wanted, shared, and given up when others need the room.

What a caller may choose must not fill the memory: so many models at once, and so many sets of them, which cost a
thread and some tables each. A set that nobody uses makes room; the least recently used goes first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from eot.errors import InputError, RateLimitedError
from eot.fusion import FusionSettings
from local_models.load import Engines

if TYPE_CHECKING:
    from local_models.fusion import FusionEngine

SETS = 8


class _Lent:
    """A set, or the making of it, and how many use it now."""

    def __init__(self, making: Coroutine[None, None, FusionEngine]) -> None:
        self.task = asyncio.create_task(making)
        self.users = 0


class Lending:
    """At most `most_models` models and `most_sets` sets at once."""

    def __init__(self, engines: Engines, most_models: int, most_sets: int = SETS) -> None:
        self._engines, self._most_models, self._most_sets = engines, most_models, most_sets
        self._sets: OrderedDict[FusionSettings, _Lent] = OrderedDict()

    @property
    def models(self) -> set[str]:
        """The models of all sets that are here now."""
        return {member for settings in self._sets for member in settings.members}

    def __len__(self) -> int:
        return len(self._sets)

    @asynccontextmanager
    async def lend(self, settings: FusionSettings, name: str) -> AsyncIterator[FusionEngine]:
        """The engine of this set for as long as it is in use; who asks for the same set shares it.

        Raises:
            InputError: it has more models than there may be, or as `Engines.fuse`.
            RateLimitedError: all that could make room is in use.
            WeightsError, MissingExtraError: as `Engines.fuse`.
        """
        lent = self._of(settings, name)
        lent.users += 1
        try:
            yield await asyncio.shield(lent.task)
        except BaseException:
            if lent.task.done() and (lent.task.cancelled() or lent.task.exception()):
                self._forget(settings, lent)
            raise
        finally:
            lent.users -= 1

    async def close(self) -> None:
        """Close every set; the models are the engines' to close."""
        lent = list(self._sets.values())
        self._sets.clear()
        for made in await asyncio.gather(*(one.task for one in lent), return_exceptions=True):
            if not isinstance(made, BaseException):
                await made.close()

    def _of(self, settings: FusionSettings, name: str) -> _Lent:
        if settings not in self._sets:
            leaving = self._room_for(settings)
            gone = [(one, self._sets.pop(one)) for one in leaving]
            self._sets[settings] = _Lent(self._make(settings, name, gone))
        self._sets.move_to_end(settings)
        return self._sets[settings]

    def _room_for(self, settings: FusionSettings) -> list[FusionSettings]:
        """The sets that must go, so that this one can come."""
        if len(set(settings.members)) > self._most_models:
            raise InputError(f"{len(settings.members)} members, and at most {self._most_models} models are loaded here")
        staying, leaving = dict(self._sets), list[FusionSettings]()
        for one, lent in self._sets.items():
            models = {member for other in (*staying, settings) for member in other.members}
            if len(staying) < self._most_sets and len(models) <= self._most_models:
                break
            if not lent.users:
                del staying[one]
                leaving.append(one)
        models = {member for other in (*staying, settings) for member in other.members}
        if len(staying) >= self._most_sets or len(models) > self._most_models:
            raise RateLimitedError("the models of other sets are in use, and there is no room for more", 5)
        return leaving

    async def _make(
        self, settings: FusionSettings, name: str, gone: list[tuple[FusionSettings, _Lent]]
    ) -> FusionEngine:
        """Free what had to go, then load: the one may need the memory of the other."""
        for _, lent in gone:
            [left] = await asyncio.gather(lent.task, return_exceptions=True)
            if not isinstance(left, BaseException):
                await left.close()
        await self._give_up({member for one, _ in gone for member in one.members} - self.models)
        try:
            return await self._engines.make_set(settings, name)
        except BaseException:
            others = {member for one in self._sets if one != settings for member in one.members}
            await self._give_up(set(settings.members) - others)
            raise

    async def _give_up(self, members: Iterable[str]) -> None:
        for member in members:
            await self._engines.give_up(member)

    def _forget(self, settings: FusionSettings, lent: _Lent) -> None:
        if self._sets.get(settings) is lent:
            del self._sets[settings]
