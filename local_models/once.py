"""Things that take long to load: each loaded once, however many ask at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

TRANSFORMERS = threading.Lock()
"""Held while transformers loads a model: it imports its parts as it goes, and sets torch's default dtype for all."""


class Once(Generic[T]):
    """What was loaded for each key, or is being loaded. A load that failed is tried again by the next one to ask."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(_awaited(load))
        task = self._tasks[key]
        try:
            return await asyncio.shield(task)  # who gives up must not take it from the others
        except BaseException:
            if task.done() and (task.cancelled() or task.exception()):
                self._tasks.pop(key, None)
            raise

    def pop(self, key: Hashable) -> asyncio.Task[T] | None:
        """Keep this one no longer; the task that loaded it, or still does."""
        return self._tasks.pop(key, None)

    async def taken(self) -> list[T]:
        """Everything that was loaded, once what is under way is done; nothing is kept."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        return [end for end in ends if not isinstance(end, BaseException)]


async def _awaited(load: Callable[[], Awaitable[T]]) -> T:
    return await load()
