"""Examples to learn from, as JSON lines: questions with an answer, or with a better and a worse one.

Rows are read into the one shape that trl calls conversational prompt-completion. Lines that cannot be used are counted
and passed over; a file without any row that can be used is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eot.errors import InputError
from local_models.training.corpus import readable

EVERY = 10
"""Every tenth row is held out, to measure with."""
Row = dict[str, Any]


def examples(files: Sequence[Path]) -> tuple[list[Row], int]:
    """Rows {prompt, completion}, each a list of messages; and how many lines were passed over.

    A line has `messages`, or `prompt` or `question` with `completion`, `response` or `answer`.

    Raises:
        InputError: a file cannot be read, or there is no such row.
    """
    return _read(files, _example, '{"prompt": ..., "completion": ...} or {"messages": [...]}')


def pairs(files: Sequence[Path]) -> tuple[list[Row], int]:
    """Rows {prompt, chosen, rejected}, each a list of messages; and how many lines were passed over.

    A line has `prompt` or `question` with `chosen` and `rejected`; or, after SOLAR's Math-Alignment (arXiv 2312.15166,
    section 3.2), `rephrased_question` with `rephrased_answer`, which is chosen over the `original_answer`.

    Raises:
        InputError: a file cannot be read, or there is no such row.
    """
    return _read(files, _pair, '{"prompt": ..., "chosen": ..., "rejected": ...}')


def parted(rows: Sequence[Row], most: int) -> tuple[list[Row], list[Row]]:
    """(trained on, held out): every tenth row is held out, `most` at most.

    Raises:
        InputError: there are too few rows for both.
    """
    if len(rows) < 2:
        raise InputError("there must be two rows at least: one to learn from, one to measure with")
    held = rows[::EVERY][:most]
    return [row for at, row in enumerate(rows) if at % EVERY or at // EVERY >= most], list(held)


def _read(files: Sequence[Path], shape: Callable[[Mapping[str, Any]], Row | None], right: str) -> tuple[list[Row], int]:
    found: list[Row] = []
    passed = 0
    for file in files:
        try:
            with file.open("rb") as lines:
                for line in lines:
                    row = _row_in(line, shape)
                    found += [row] if row else []
                    passed += row is None
        except OSError as fault:
            raise InputError(f"{file} cannot be read: {fault.strerror}") from fault
    if not found:
        raise InputError(f"no line of {', '.join(map(str, files))} can be learnt from: write {right}")
    return found, passed


def _row_in(line: bytes, shape: Callable[[Mapping[str, Any]], Row | None]) -> Row | None:
    try:
        row = json.loads(line)
        return shape(row) if isinstance(row, dict) else None
    except (ValueError, TypeError, KeyError, RecursionError):  # no JSON or no UTF-8, or a message without a role
        return None


def _example(row: Mapping[str, Any]) -> Row | None:
    if "messages" in row:
        *before, last = _messages(row["messages"], "user")
        return {"prompt": before, "completion": [last]} if before and last["role"] == "assistant" else None
    asked, said = _first(row, "prompt", "question"), _first(row, "completion", "response", "answer")
    if not asked or not said:
        return None
    return {"prompt": _messages(asked, "user"), "completion": _messages(said, "assistant")}


def _pair(row: Mapping[str, Any]) -> Row | None:
    asked = _first(row, "prompt", "question", "rephrased_question")
    better, worse = _first(row, "chosen", "rephrased_answer"), _first(row, "rejected", "original_answer")
    if not asked or not better or not worse or better == worse:
        return None
    prompt, chosen, rejected = (
        _messages(asked, "user"),
        _messages(better, "assistant"),
        _messages(worse, "assistant"),
    )
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name)), None)


def _messages(said: Any, role: str) -> list[dict[str, str]]:
    """Messages as they are, or a text as the one message of this role."""
    if isinstance(said, str):
        return [{"role": role, "content": readable(said)}]
    return [{"role": str(each["role"]), "content": readable(str(each["content"]))} for each in said]
