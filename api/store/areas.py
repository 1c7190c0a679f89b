"""The typed areas of the store: what the backends' texts and bytes mean, written once for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, TypeVar

from api.store.protocol import Backend, Blobs, Documents
from api.store.rows import (
    Answer,
    Batch,
    Conversation,
    Feedback,
    File,
    Key,
    Making,
    Response,
    Row,
    Run,
    Running,
    Told,
)

R = TypeVar("R", bound=Row)
_AT_ONCE = 200
"""Rows in one round trip."""


class Area(Generic[R]):
    """Rows of one kind."""

    def __init__(self, documents: Documents, kind: str, row: type[R]) -> None:
        self._documents, self._kind, self._row = documents, kind, row

    async def load(self, id_: str) -> R | None:
        text = await self._documents.get(self._kind, id_)
        return None if text is None else self._row.model_validate_json(text)

    async def several(self, ids: Sequence[str]) -> dict[str, R]:
        """Those of these rows that there are, by id, a few hundred to a round trip."""
        found: dict[str, R] = {}
        for first in range(0, len(ids), _AT_ONCE):
            texts = await self._documents.several(self._kind, ids[first : first + _AT_ONCE])
            found |= {id_: self._row.model_validate_json(text) for id_, text in texts.items()}
        return found

    async def save(self, row: R, expires: float | None = None) -> None:
        text = row.model_dump_json()
        await self._documents.put(self._kind, row.id, text, owner=row.owner, created=row.created, expires=expires)

    async def save_new(self, row: R, expires: float | None = None) -> R | None:
        """Save it unless that id is taken; then return the row that stands there."""
        text = row.model_dump_json()
        standing = await self._documents.put_new(
            self._kind, row.id, text, owner=row.owner, created=row.created, expires=expires
        )
        return None if standing is None else self._row.model_validate_json(standing)

    async def change(self, id_: str, step: Callable[[R], R | None]) -> R | None:
        """Apply a change to the row as it now is; None where there is no row or the step declines.

        The step may be called several times, when somebody else changes the row meanwhile.
        """
        while (old := await self._documents.get(self._kind, id_)) is not None:
            changed = step(self._row.model_validate_json(old))
            if changed is None:
                return None
            if await self._documents.swap(self._kind, id_, old, changed.model_dump_json()):
                return changed
        return None

    async def page(self, owner: str | None, limit: int = 20, after: str | None = None) -> list[R]:
        """Rows of one owner (None: of all), newest first, those after the id `after`."""
        texts = await self._documents.page(self._kind, owner, limit, after)
        return [self._row.model_validate_json(text) for text in texts]

    async def delete(self, id_: str) -> bool:
        return await self._documents.delete(self._kind, id_)


class Runs(Area[Run]):
    async def search(self, owner: str, said: str, limit: int = 20, after: str | None = None) -> list[Run]:
        """Newest first, those whose title contains the words, whatever their case."""
        found: list[Run] = []
        while len(found) < limit and (rows := await self.page(owner, 200, after)):
            found += [row for row in rows if said.casefold() in row.title.casefold()]
            after = rows[-1].id
        return found[:limit]


class Files(Area[File]):
    """Descriptions and bytes. The description is written last: a file that can be seen is whole."""

    def __init__(self, documents: Documents, blobs: Blobs) -> None:
        super().__init__(documents, "file", File)
        self._blobs = blobs

    async def write(self, file: File, chunks: AsyncIterator[bytes]) -> File:
        size = await self._blobs.write(file.id, chunks)
        written = file.model_copy(update={"size": size})
        await self.save(written)
        return written

    def read(self, id_: str) -> AsyncIterator[bytes]:
        return self._blobs.read(id_)

    async def delete(self, id_: str) -> bool:
        found = await super().delete(id_)
        await self._blobs.delete(id_)
        return found


class Batches(Area[Batch]):
    """Batches. Those with something left to be done are listed once more: nobody looks through the others."""

    async def save_new(self, row: Batch, expires: float | None = None) -> Batch | None:
        await self._documents.put("active", row.id, row.id, created=row.created)
        return await super().save_new(row, expires)

    async def active(self) -> list[Batch]:
        """Batches that were not retired, oldest first."""
        ids: list[str] = []
        while page := await self._documents.page("active", None, 500, ids[-1] if ids else None):
            ids += page
        rows = [await self.load(id_) for id_ in reversed(ids)]
        return [row for row in rows if row]  # one without a description is about to get it

    async def retire(self, id_: str) -> None:
        """Nothing is left to be done for this batch."""
        await self._documents.delete("active", id_)


class Store:
    """Everything that is kept, over one backend."""

    def __init__(self, backend: Backend) -> None:
        documents = backend.documents
        self.runs = Runs(documents, "run", Run)
        self.running = Area(documents, "running", Running)
        self.told = Area(documents, "told", Told)
        self.documents = documents
        self.conversations = Area(documents, "conversation", Conversation)
        self.files = Files(documents, backend.blobs)
        self.batches = Batches(documents, "batch", Batch)
        self.keys = Area(documents, "key", Key)
        self.answers = Area(documents, "answer", Answer)
        self.responses = Area(documents, "response", Response)
        self.feedback = Area(documents, "feedback", Feedback)
        self.makings = Area(documents, "making", Making)
        self.items = backend.items
        self.counters = backend.counters
        self._backend = backend

    async def ping(self) -> None:
        """Raise unless the store can be read and written."""
        await self._backend.ping()

    async def close(self) -> None:
        await self._backend.close()
