"""The one story of a run, told as it happens.

The command line's live view, SSE, the chat page, metrics and logs all read these events; nobody computes a second
story. `at` is seconds since the run started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from eot.types import Exchange, Frozen, Kind, Question, Stop, Turn, Verdict


class _Event(Frozen):
    run_id: str
    at: float


class RunStarted(_Event):
    type: Literal["run_started"] = "run_started"
    question: Question
    kind: Kind
    topology: str
    hears: Mapping[str, tuple[str, ...]]
    max_rounds: int


class TurnStarted(_Event):
    """An agent begins to think. `reads` names the peers whose last message is in its prompt."""

    type: Literal["turn_started"] = "turn_started"
    agent: str
    round: int
    reads: tuple[str, ...] = ()


class Token(_Event):
    """A piece of text. `restart` says: forget what came before of this turn (the call was tried again)."""

    type: Literal["token"] = "token"
    agent: str
    round: int
    text: str
    restart: bool = False


class TurnEnded(_Event):
    type: Literal["turn_ended"] = "turn_ended"
    turn: Turn


class Stopped(_Event):
    type: Literal["stopped"] = "stopped"
    stop: Stop


class VoteStarted(_Event):
    type: Literal["vote_started"] = "vote_started"
    method: str
    voters: tuple[str, ...]


class VerdictReached(_Event):
    type: Literal["verdict_reached"] = "verdict_reached"
    exchange: Exchange
    verdict: Verdict


Event = Annotated[
    RunStarted | TurnStarted | Token | TurnEnded | Stopped | VoteStarted | VerdictReached, Field(discriminator="type")
]

Watch = Callable[[Event], None]
"""Whoever watches a run is handed each event. It must neither block nor raise."""
