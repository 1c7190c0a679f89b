"""Pulls of local models for the page: one at a time a model, told to whoever follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import local_models
from local_models import Progress

_LOOK = 0.2
"""Seconds between two tellings."""


class Pull:
    """One pull, in a thread of its own. It goes on whether anybody follows it or not."""

    def __init__(self, name: str, home: Path) -> None:
        self.latest = Progress(name, "", 0, local_models.find(name).bytes)
        self.task = asyncio.create_task(asyncio.to_thread(local_models.pull, name, home, self._heard))

    def _heard(self, progress: Progress) -> None:
        self.latest = progress

    async def follow(self) -> AsyncIterator[Progress]:
        """How far it is, now and then until it has ended.

        Raises:
            EotError: what ended it instead.
        """
        told = None
        while not self.task.done():
            if self.latest != told:
                told = self.latest
                yield told
            await asyncio.wait([self.task], timeout=_LOOK)
        self.task.result()


class Pulls:
    """The pulls of this process, by model."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._under_way: dict[str, Pull] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._under_way

    def begin(self, name: str) -> Pull:
        """Begin to pull, or join who pulls it already.

        Raises:
            UnknownNameError: the catalogue has no such model.
        """
        if name not in self._under_way:
            self._under_way[name] = pull = Pull(name, self._home)
            pull.task.add_done_callback(lambda _: self._under_way.pop(name))
        return self._under_way[name]
