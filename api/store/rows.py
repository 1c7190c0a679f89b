"""What the service keeps: frozen rows, each stored as one JSON text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from eot.types import Frozen

RunStatus = Literal["running", "completed", "failed", "stopped"]
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[str] = frozenset({"failed", "completed", "expired", "cancelled"})
"""Statuses of a batch that will not change any more."""


class Row(Frozen):
    """One stored thing. `owner` is the id of the key that made it, "" where no keys are in use."""

    id: str
    owner: str = ""
    created: float = Field(default_factory=time.time)


class Run(Row):
    """A run: what was asked, how it ended. `events` are the events of an ended run as JSON lines."""

    status: RunStatus = "running"
    title: str = ""
    """The question's first words: what a list shows and a search looks through."""
    request: Mapping[str, Any] = Field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    events: str = ""
    ended: float | None = None


class File(Row):
    """A file's description; its bytes lie beside it under its id. `expires` is a Unix time."""

    filename: str
    purpose: str
    size: int = 0
    expires: float | None = None


class Counts(Frozen):
    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def left(self) -> int:
        return self.total - self.completed - self.failed


class Fault(Frozen):
    """One thing wrong with a batch's file, as OpenAI shapes it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Batch(Row):
    """A batch as its maker sees it. `at` has a Unix time for each state that was entered; `eot` is our extension."""

    endpoint: str
    input_file_id: str
    completion_window: str = "24h"
    status: BatchStatus = "validating"
    metadata: Mapping[str, str] = Field(default_factory=dict)
    at: Mapping[str, float] = Field(default_factory=dict)
    expires: float | None = None
    counts: Counts = Counts()
    """As they were when the status last changed; while it is in progress the items know better."""
    errors: tuple[Fault, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    max_usd: float | None = None
    max_calls: int | None = None
    estimate: Mapping[str, Any] = Field(default_factory=dict)


class Item(Frozen):
    """One request of a batch. `line` counts from 1 and identifies it; so does `custom_id` within its batch."""

    line: int
    custom_id: str
    request: str
    """The request's body, as JSON."""


class Outcome(Frozen):
    """How an item ended: `body` is the JSON of its line in the output file, or, where `ok` is false, the error file."""

    line: int
    ok: bool
    body: str


class Finished(Frozen):
    """What committing an outcome did. `won` is false where another one stood already.

    `next_line` has come into the batch's window and may be queued; `left` items have no outcome yet.
    """

    won: bool
    next_line: int | None = None
    left: int = 0


class Key(Row):
    """An API key: never the key itself, only its hash. `id` is public. Caps are a minute's, or dollars in all."""

    name: str
    hash: str
    scopes: tuple[str, ...] = ("chat",)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_usd: float | None = None
    revoked: float | None = None


class Answer(Row):
    """What an Idempotency-Key was answered. `status` is None while the first request is still under way."""

    body_hash: str
    status: int | None = None
    headers: Mapping[str, str] = Field(default_factory=dict)
    body: str = ""


class Level(Frozen):
    """A token bucket after a look: whether the amount was taken, what is left, seconds until it would be there."""

    taken: bool
    remaining: float
    wait: float = 0.0
