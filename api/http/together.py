"""Several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")


async def together(streams: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T], None]:
    """(which stream, item), each as it comes, until all have ended. A slow reader holds every stream back.

    The streams must not raise.
    """
    queue = asyncio.Queue[tuple[int, T] | None](maxsize=1)
    pumps = [asyncio.create_task(_pump(index, stream, queue)) for index, stream in enumerate(streams)]
    try:
        left = len(pumps)
        while left:
            found = await queue.get()
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(index: int, stream: AsyncIterator[T], queue: asyncio.Queue[tuple[int, T] | None]) -> None:
    async for item in stream:
        await queue.put((index, item))
    await queue.put(None)
