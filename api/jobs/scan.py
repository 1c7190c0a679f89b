"""A batch's whole file read once: its items into the store, its faults into a list, what it may cost into a sum."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.jobs.lines import MOST_LINES, Check, numbered, read_line
from api.store import Estimate, Fault, Item
from api.store.protocol import Items

_CHUNK = 200
"""Lines between two looks at the event loop: about ten milliseconds."""
_MOST_FAULTS = 100


@dataclass
class Scan:
    """What a file holds. At most 100 faults are kept; the first is enough to refuse it."""

    items: int = 0
    faults: list[Fault] = field(default_factory=list)
    estimate: Estimate = field(default_factory=Estimate)


async def scan(
    chunks: AsyncIterator[bytes],
    endpoint: str,
    check: Check,
    price: Callable[[dict[str, Any]], Estimate],
    *,
    into: Items | None = None,
    batch: str = "",
) -> Scan:
    """Read a file of requests; put its items `into` the store under `batch`, if both are given.

    Reading the same file again adds nothing twice. Memory does not grow with the number of lines: whether a custom_id
    was used before is asked of the store.
    """
    found, waiting = Scan(), list[Item]()
    async for number, line in numbered(chunks):
        read = read_line(number, line, endpoint, check)
        if isinstance(read, Item):
            found.items += 1
            found.estimate += price(json.loads(read.request))
            waiting.append(read)
        elif read:
            found.faults.append(read)
        if found.items > MOST_LINES:
            said = f"more than {MOST_LINES:,} requests; split the file"
            found.faults.append(Fault(code="too_many_requests", message=said, line=number))
            break
        if len(waiting) >= _CHUNK:
            found.faults += await _put(waiting, into, batch)
            waiting = []
        if len(found.faults) >= _MOST_FAULTS:
            break
    found.faults += await _put(waiting, into, batch)
    if not found.items and not found.faults:
        found.faults.append(Fault(code="empty_file", message="the file has no requests; write one a line"))
    found.faults.sort(key=lambda fault: fault.line or 0)
    return found


async def _put(items: Sequence[Item], into: Items | None, batch: str) -> list[Fault]:
    await asyncio.sleep(0)
    twice = await into.add(batch, items) if into and items else []
    names = {item.line: item.custom_id for item in items}
    return [_twice(line, names[line]) for line in twice]


def _twice(line: int, name: str) -> Fault:
    said = f"line {line}: the custom_id {json.dumps(name)[:80]} was used in an earlier line already"
    return Fault(code="duplicate_custom_id", message=said, line=line, param="custom_id")
