"""What the service keeps: frozen rows, each stored as one JSON text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from eot.types import Frozen, Message, Usage

MakingStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
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
    begun: int = 1
    """How often it was begun: a process that died in it leaves it to the next one."""


class Running(Row):
    """A run that has not ended, listed apart from all others: who has it, and what others want of whoever that is."""

    holder: str
    """The process that plays it, by its name in `Presence`."""
    begun: int = 1
    """As in the run's row: who plays it for the n-th time cannot write for who plays it for the next."""
    stop: bool = False
    heard: bool = False
    """Somebody follows it in another process: its events are to be put into the store as they come."""


class Told(Row):
    """The events of a run that others follow, so far: JSON lines, as in the run's row."""

    begun: int
    events: str = ""


class Feedback(Row):
    """What was said of a run, under its id: `given` as it was said, `scores` what that says of each agent alone."""

    question: str
    given: Mapping[str, Any]
    scores: Mapping[str, float] = Field(default_factory=dict)
    costs: Mapping[str, float] = Field(default_factory=dict)


class Response(Row):
    """A response that was asked to be stored: its body, and the conversation up to it, its own answer the last."""

    body: Mapping[str, Any]
    messages: tuple[Message, ...]


class Asked(Frozen):
    """A question of a conversation. It follows the answer of the run `parent`; each of `runs` answered it."""

    id: str
    parent: str | None = None
    question: Mapping[str, Any] = Field(default_factory=dict)
    gold: str = ""
    runs: tuple[str, ...] = ()


class Conversation(Row):
    """A tree of questions and the runs that answered them, oldest first: a branch is a path from run to run."""

    title: str = ""
    updated: float = Field(default_factory=time.time)
    asked: tuple[Asked, ...] = ()


class File(Row):
    """A file's description; its bytes lie beside it under its id. `expires` is a Unix time."""

    filename: str
    purpose: str
    size: int = 0
    expires: float | None = None


class Counts(Frozen):
    """How far a batch is and what it has spent: `usd` without the items whose price nobody knows, which are counted."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0

    @property
    def left(self) -> int:
        return self.total - self.completed - self.failed


class Fault(Frozen):
    """One thing wrong with a batch's file, as OpenAI shapes it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Estimate(Frozen):
    """What a batch may take, before it starts: from every first answer agreeing to every round being played.

    Tokens and dollars are those of the worst case; `usd` is None where a price is unknown.
    """

    calls_least: int = 0
    calls_most: int = 0
    input_tokens_most: int = 0
    output_tokens_most: int = 0
    usd_most: float | None = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        unknown = self.usd_most is None or other.usd_most is None
        return Estimate(
            calls_least=self.calls_least + other.calls_least,
            calls_most=self.calls_most + other.calls_most,
            input_tokens_most=self.input_tokens_most + other.input_tokens_most,
            output_tokens_most=self.output_tokens_most + other.output_tokens_most,
            usd_most=None if unknown else (self.usd_most or 0.0) + (other.usd_most or 0.0),
        )


class Batch(Row):
    """A batch as its maker sees it. `at` has a Unix time for each state that was entered."""

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
    ending: Literal["completed", "expired"] = "completed"
    """What it becomes after finalizing; one that is cancelling becomes cancelled."""
    max_usd: float | None = None
    max_calls: int | None = None
    estimate: Estimate | None = None

    def entered(self, status: BatchStatus, **more: Any) -> Batch:
        """The batch as it is once that status is entered, now."""
        return self.model_copy(update={"status": status, "at": {**self.at, status: time.time()}, **more})


class Item(Frozen):
    """One request of a batch. `line` counts from 1 and identifies it; so does `custom_id` within its batch."""

    line: int
    custom_id: str
    request: str
    """The request's body, as JSON."""


class Outcome(Frozen):
    """How an item ended: `body` is the JSON of its line in the output file, or, where `ok` is false, the error file.

    The line's ids are not in it: they are the same whatever the outcome.
    """

    line: int
    ok: bool
    body: str
    usage: Usage = Usage()


def spent_by(usage: Usage) -> dict[str, float]:
    """A usage by the names of `Counts`."""
    return {
        "calls": usage.calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "usd": usage.cost_usd or 0.0,
        "unpriced": int(usage.cost_usd is None),
    }


class Finished(Frozen):
    """What committing an outcome did. `won` is false where another one stood already.

    `next_line` has come into the batch's window and may be queued; `left` items have no outcome yet.
    """

    won: bool
    next_line: int | None = None
    left: int = 0


class Making(Row):
    """A model in the making: a command in a process of its own. `model` is the name that it will have, if it is one.

    `request` is what was asked; `progress` the last that the command told, `result` what it printed at its end.
    """

    kind: str
    action: str
    model: str = ""
    status: MakingStatus = "queued"
    request: Mapping[str, Any] = Field(default_factory=dict)
    words: tuple[str, ...] = ()
    progress: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    error: str = ""
    begun: float | None = None
    ended: float | None = None


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
