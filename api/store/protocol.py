"""What a backend of the store can do: four small groups of methods, the same for SQLite and for Redis.

Rows are JSON texts to a backend; `areas.py` says what they mean, once for all backends. Every method is atomic, and
what it changed is durable when it returns. A backend that sends a command again, because its answer was lost, still
does it once. All times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from api.store.rows import Counts, Finished, Item, Level, Outcome


class Documents(Protocol):
    """Texts by kind and id."""

    async def get(self, kind: str, id_: str) -> str | None: ...

    async def several(self, kind: str, ids: Sequence[str]) -> dict[str, str]:
        """Those of these that there are, by id, in one round trip."""
        ...

    async def put(
        self, kind: str, id_: str, text: str, *, owner: str = "", created: float = 0.0, expires: float | None = None
    ) -> None: ...

    async def put_new(
        self, kind: str, id_: str, text: str, *, owner: str = "", created: float = 0.0, expires: float | None = None
    ) -> str | None:
        """Put it where nothing lies under that id; else leave and return what lies there."""
        ...

    async def swap(self, kind: str, id_: str, old: str, new: str) -> bool:
        """Put `new` in the place of exactly `old`; False where something else lies there."""
        ...

    async def page(self, kind: str, owner: str | None, limit: int, after: str | None = None) -> list[str]:
        """Texts of one owner (None: of all), newest first, those after the id `after`; none of those that expire."""
        ...

    async def delete(self, kind: str, id_: str) -> bool: ...


class Blobs(Protocol):
    """Bytes by id, written and read as a stream."""

    async def write(self, id_: str, chunks: AsyncIterator[bytes]) -> int:
        """Store them whole or not at all, in the place of what lay there; return how many bytes."""
        ...

    def read(self, id_: str) -> AsyncIterator[bytes]:
        """Chunks of any size; nothing where nothing lies."""
        ...

    async def delete(self, id_: str) -> None: ...


class Items(Protocol):
    """The requests of batches and how each ended. At most one outcome is ever committed for an item."""

    async def add(self, batch: str, items: Sequence[Item]) -> list[int]:
        """Add what is not there yet; return the lines whose custom_id another line has already."""
        ...

    async def load(self, batch: str, line: int) -> Item | None:
        """The item, if it has no outcome yet."""
        ...

    async def window(self, batch: str, size: int) -> list[int]:
        """Lines of the first `size` items without an outcome."""
        ...

    async def book(self, batch: str, line: int, calls: int, cap: int) -> bool:
        """Book calls for an item without an outcome, if what was spent and what is booked then stay within the cap.

        An item that has a booking keeps it. Its outcome takes the booking's place.
        """
        ...

    async def finish(self, batch: str, outcome: Outcome, window: int = 0) -> Finished:
        """Commit the outcome unless one stands; `next_line` is the last of the window of that size."""
        ...

    async def finish_rest(self, batch: str, ok: bool, body: str, limit: int) -> int:  # noqa: FBT001 - as in Outcome
        """Commit this outcome for up to `limit` items that have none; return for how many."""
        ...

    async def outcomes(self, batch: str, after: int, limit: int) -> list[tuple[Outcome, str]]:
        """Outcomes with their custom_id, by line, of the lines above `after`."""
        ...

    async def counts(self, batch: str) -> Counts: ...

    async def drop(self, batch: str) -> None:
        """Forget all of them. An outcome that comes afterwards is refused."""
        ...


class Counters(Protocol):
    """Numbers that several processes share."""

    async def take(
        self, key: str, amount: float, per_minute: float, *, force: bool = False, leave: float = 0.0
    ) -> Level:
        """Take from a bucket that holds `per_minute` and refills at that rate.

        Without `force` it is taken only if it is all there, and `leave` besides, which stays. With `force` it is always
        taken, the level may fall below zero, and `wait` is how long the taker must sleep to keep the rate; a negative
        amount gives back.
        """
        ...

    async def add(self, key: str, amount: float) -> float:
        """Add to a running total (0 at first) and return it."""
        ...

    async def total(self, key: str) -> float:
        """The running total as it is."""
        ...


class Backend(Protocol):
    @property
    def documents(self) -> Documents: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def items(self) -> Items: ...
    @property
    def counters(self) -> Counters: ...

    async def ping(self) -> None:
        """Raise unless something can be read and written."""
        ...

    async def close(self) -> None: ...
