"""Files' bytes in a folder, one file an id."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

_CHUNK = 1 << 18


class DiskBlobs:
    """Each is written under a passing name and renamed when it is whole and on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, id_: str, chunks: AsyncIterator[bytes]) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        size = 0
        with NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as made:  # readable by its owner alone
            try:
                async for chunk in chunks:
                    size += await asyncio.to_thread(made.write, chunk)
                made.flush()
                await asyncio.to_thread(os.fsync, made.fileno())
                os.replace(made.name, self._folder / id_)  # noqa: PTH105 - one system call, not worth a thread
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(made.name)  # noqa: PTH108 - the same
                raise
        return size

    async def read(self, id_: str) -> AsyncIterator[bytes]:
        path = self._folder / id_
        if not path.exists():
            return
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk

    async def delete(self, id_: str) -> None:
        (self._folder / id_).unlink(missing_ok=True)
