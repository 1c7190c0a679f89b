"""The lines of a batch's file, checked one at a time: what cannot become an item is a fault with its line number."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Never

from api.store import Fault, Item
from eot.text import fault_in
from scoring.json_rows import shown

LONGEST_LINE = 1 << 20
"""Bytes. The longest question that is taken has 200,000 characters."""
MOST_LINES = 50_000
LONGEST_ID = 256

_SHAPE = '{"custom_id": ..., "method": "POST", "url": ..., "body": {...}}'
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""Escapes of NULs and surrogates: only lines with one need be looked at character by character."""

Check = Callable[[dict[str, Any]], str]
"""Says what is wrong with a request's body, or "" when it can be asked."""


async def numbered(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes | None]]:
    """The lines of a file with their numbers from 1, without their ends; None for one that is too long.

    Memory holds one chunk and one line, whatever is sent. A byte-order mark is no part of the first line.
    """
    number, rest, cut = 1, b"", False
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield number, _line(line, number, cut=cut)
            number, cut = number + 1, False
        if len(rest) > LONGEST_LINE:
            rest, cut = b"", True
    if rest or cut:
        yield number, _line(rest, number, cut=cut)


def _line(line: bytes, number: int, *, cut: bool) -> bytes | None:
    if cut or len(line) > LONGEST_LINE:
        return None
    return line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def read_line(number: int, line: bytes | None, endpoint: str, check: Check) -> Item | Fault | None:
    """The item that this line is, or what is wrong with it; None for an empty line."""
    if line is not None and not line.strip():
        return None
    try:
        return _item(number, _parsed(line), endpoint, check)
    except _WrongError as fault:
        return Fault(code=fault.code, message=f"line {number}: {fault}", line=number, param=fault.param)


def _parsed(line: bytes | None) -> Any:
    if line is None:
        raise _WrongError("", f"longer than {LONGEST_LINE:,} bytes; ask less at once", "line_too_long")
    try:
        text = line.decode()  # json.loads takes bytes too, but lets surrogates in them pass, and UTF-16
        row = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as fault:
        said = f"not JSON ({fault.msg} at column {fault.colno}); write {_SHAPE}"
    except UnicodeDecodeError as fault:
        said = f"not UTF-8 text ({fault.reason} at byte {fault.start:,})"
    except RecursionError:
        said = "nested too deeply"
    except ValueError as fault:  # NaN, or a number of 5,000 digits
        said = f"not JSON ({str(fault).partition(';')[0]})"
    else:
        if _SUSPECT.search(line):
            _refuse_unsendable(row)
        return row
    raise _WrongError("", said, "invalid_json_line")


class _WrongError(Exception):
    def __init__(self, param: str, said: str, code: str = "invalid_request") -> None:
        super().__init__(f"{param}: {said}" if param else said)
        self.param, self.code = param or None, code


def _item(number: int, row: Any, endpoint: str, check: Check) -> Item:
    if not isinstance(row, dict):
        raise _WrongError("", f"read {shown(row)}; write {_SHAPE}")
    name, body = row.get("custom_id"), row.get("body")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID:
        raise _WrongError("custom_id", f"read {shown(name)}; it must be a text of 1 to {LONGEST_ID} characters")
    if row.get("method", "POST") != "POST":
        raise _WrongError("method", f'read {shown(row["method"])}; only "POST" is taken')
    if row.get("url", endpoint) != endpoint:
        raise _WrongError("url", f"read {shown(row['url'])}; this batch is for {endpoint}", "mismatched_endpoint")
    if not isinstance(body, dict):
        raise _WrongError("body", f"read {shown(body)}; it must be the request, an object")
    if body.get("stream"):
        raise _WrongError("body.stream", "an item of a batch cannot be streamed; leave it out")
    if said := check(body):
        raise _WrongError("body", said)
    return Item(line=number, custom_id=name, request=json.dumps(body))


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is no number in JSON")


def _refuse_unsendable(row: Any) -> None:
    """Raise where a text anywhere in it holds a NUL or a lone surrogate."""
    waiting = [row]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and (said := fault_in(value)):
            raise _WrongError("", said, "invalid_text")
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
