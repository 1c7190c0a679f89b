"""What an item of a batch may be: the requests that the HTTP routes take, answered by the same functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api.store import Estimate
from eot.types import Usage

Body = dict[str, Any]


class NotAnsweredError(Exception):
    """Whether the request was answered nobody can tell: it must be asked again, and what was paid is recalled."""


@dataclass(frozen=True)
class Endpoint:
    """One kind of request.

    `check` says what is wrong with a body, or "". `pricing` gives what reckons a body's cost. `perform` answers it:
    body, owner, run id (what was asked under one is not paid twice), and how many calls it may make at most. It raises
    ApiError or EotError, or NotAnsweredError or a fault of the store where it is to be asked again.
    """

    check: Callable[[Body], str]
    pricing: Callable[[], Awaitable[Callable[[Body], Estimate]]]
    perform: Callable[[Body, str, str, int | None], Awaitable[Body]]


Endpoints = Mapping[str, Endpoint]
"""By their path: /v1/chat/completions, ..."""


def usage_in(answer: Body) -> Usage:
    """What an answer says it spent: our field `eot`, of one run or of several; or a run of our own, whole."""
    told = answer.get("eot")
    runs = told if isinstance(told, list) else [told]
    if result := answer.get("result"):
        runs = [result["exchange"]]
    return sum((Usage.model_validate(run["usage"]) for run in runs if run and run.get("usage")), Usage())
