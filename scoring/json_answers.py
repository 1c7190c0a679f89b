"""JSON in a reply: found, and written in one way, so that equal values are equal texts."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Never

_READ = 100_000
"""Characters from the end that are looked at."""
_TRIES = 200
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_OPENING = re.compile(r"[{\[]")


class NoJsonError(ValueError):
    """There is no JSON value in the text."""


def json_in(text: str) -> Any:
    """The whole text as JSON, else its last fenced block that is JSON, else the last object or array in it.

    Raises:
        NoJsonError: there is none, or none that could be written again (a number beyond floats, half a character).
    """
    tail = text[-_READ:]
    for candidate in (tail, *reversed(_FENCED.findall(tail))):
        try:
            return _parsed(candidate)
        except NoJsonError:
            continue
    found, at = None, 0
    for _ in range(_TRIES):
        opening = _OPENING.search(tail, at)
        if not opening:
            break
        at = opening.end()
        try:
            value, at = _DECODER.raw_decode(tail, opening.start())
        except (ValueError, RecursionError):
            continue
        found = [_checked(value)]
    if found is None:
        raise NoJsonError("no JSON value could be read")
    return found[0]


def canonical_json(value: Any) -> str:
    """One text for equal values: keys sorted, no blanks, 1.0 as 1."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _parsed(text: str) -> Any:
    try:
        return _checked(_DECODER.decode(text.strip()))
    except (ValueError, RecursionError):
        raise NoJsonError("this is not JSON") from None


def _checked(value: Any) -> Any:
    try:
        canonical_json(value).encode()
    except (ValueError, RecursionError):
        raise NoJsonError("the JSON cannot be written again") from None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _no_number(text: str) -> Never:
    raise ValueError(text)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number)
