"""The rows that `eot batch` reads and writes: questions become requests, and the answers come back under their ids."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eot.errors import AnswersError
from scoring.json_rows import choices_of, json_rows, shown

_RUNS = "/v1/runs"
_SHAPE = 'a row is {"id": ..., "text": ..., "kind": ..., "choices": ...}, or an OpenAI batch line'


def endpoint_of(path: Path) -> str:
    """The path that the file's requests are for, as its first row says: /v1/runs where the rows are questions.

    Raises:
        AnswersError: the file cannot be read, or has no rows.
    """
    for line, row in json_rows(path, _SHAPE):
        if not isinstance(row, dict):
            raise AnswersError(f"{path}, line {line}: read {shown(row)}; {_SHAPE}")
        if "body" not in row:
            return _RUNS
        if not isinstance(url := row.get("url"), str):
            raise AnswersError(f'{path}, line {line}: "url" is {shown(url)}; it must be a path, /v1/chat/completions')
        return url
    raise AnswersError(f"{path} has no rows; {_SHAPE}")


def request_lines(path: Path, council: str) -> Iterator[bytes]:
    """The file as OpenAI batch lines, each under its number in the file.

    Raises:
        AnswersError: the file cannot be read, or a row is not what it should be; names file and line.
    """
    written = 0
    for line, row in json_rows(path, _SHAPE):
        yield b"\n" * (line - 1 - written)
        try:
            request = row if isinstance(row, dict) and "body" in row else _request(row, line, council)
        except (TypeError, ValueError) as fault:
            raise AnswersError(f"{path}, line {line}: {fault}") from fault
        yield json.dumps(request).encode() + b"\n"
        written = line


def _request(row: Any, line: int, council: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError(f"read {shown(row)}; {_SHAPE}")
    text, name = row.get("text", row.get("question")), row.get("id")
    if not isinstance(text, str):
        raise TypeError(f'"text" is {shown(text)}; a row needs the question\'s text')
    if name is not None and (isinstance(name, bool) or not isinstance(name, int | str)):
        raise TypeError(f'"id" is {shown(name)}; it must be a string or a whole number')
    asked = {"text": text, "choices": choices_of(row.get("choices")), "context": row.get("context") or ""}
    if row.get("kind"):
        asked["kind"] = row["kind"]
    return {
        "custom_id": f"line-{line}" if name is None else str(name),
        "method": "POST",
        "url": _RUNS,
        "body": {"question": asked, "council": council},
    }


def answer_rows(output: Iterable[str], errors: Iterable[str], endpoint: str) -> Iterator[dict[str, Any]]:
    """The lines of both files in the order of the input: as they are, or as answers to questions."""
    rows = (map(json.loads, output), map(json.loads, errors))
    for row in heapq.merge(*rows, key=_line):
        yield _answer(row) if endpoint == _RUNS else row


def _line(row: dict[str, Any]) -> int:
    return int(row["id"].rpartition("_")[2])


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    body = (row["response"] or {}).get("body", {})
    if fault := row["error"] or body.get("error"):
        return {"id": row["custom_id"], "error": {"code": fault["code"], "message": fault["message"]}}
    exchange, verdict = body["result"]["exchange"], body["result"]["verdict"]
    told = {name: verdict[name] for name in ("answer", "text", "agent", "how", "support", "changed", "lost")}
    return {
        "id": row["custom_id"],
        "question": exchange["question"]["text"],
        **told,
        "usage": exchange["usage"],
        "run_id": exchange["id"],
    }
