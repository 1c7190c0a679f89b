"""Answers from anywhere, read from a file for a vote: JSON lines, gzipped or not, or one JSON document.

A row is `{"question": ..., "candidates": [{"model": ..., "text": ..., "answer": ...}, ...]}`, or `{"answers": {voter:
answer}}`, or a plain list of texts. Rows are read one at a time: 100,000 of them need no more memory than one.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast, get_args

from eot.errors import AnswersError
from eot.text import fault_in
from eot.types import Kind
from scoring.ballots import Ballot
from scoring.kind import choices_in, infer_kind
from scoring.read import canonical, read_answer

_LONGEST_DOCUMENT = 64 * 1024 * 1024
_KINDS = get_args(Kind)
_SHAPE = 'a row is {"question": ..., "candidates": [{"model": ..., "text": ...}, ...]} or a list of texts'


@dataclass(frozen=True)
class AnswerRow:
    """One question and the ballots on it. `gold` is canonical, or None where the file has none."""

    line: int
    question: str
    kind: Kind
    ballots: tuple[Ballot, ...]
    choices: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    gold: str | None = None


def read_answers(path: Path) -> Iterator[AnswerRow]:
    """The rows of a file, one at a time.

    An answer that a candidate states itself counts as it stands, null as an abstention; where the key is missing the
    answer is read from the text.

    Raises:
        AnswersError: the file cannot be read or is empty, or a row is not what it should be; names file and line.
    """
    empty = True
    for line, value in _values(path):
        empty = False
        try:
            yield _row(value, line)
        except (ValueError, TypeError) as fault:
            raise AnswersError(f"{path}, line {line}: {fault}") from fault
    if empty:
        raise AnswersError(f"{path} has no rows; {_SHAPE}")


def _values(path: Path) -> Iterator[tuple[int, Any]]:
    line = 0
    try:
        with _opened(path) as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    value = json.loads(text)
                except json.JSONDecodeError as fault:
                    if not text.lstrip().startswith(("{", "[")) or not _is_unfinished(fault, text):
                        raise
                    yield from _document(text + file.read(_LONGEST_DOCUMENT), line)
                    return
                yield from _unpacked(value, line)
    except FileNotFoundError:
        raise AnswersError(f"there is no file {path}") from None
    except json.JSONDecodeError as fault:
        at = line + fault.lineno - 1
        raise AnswersError(f"{path}, line {at}: not JSON ({fault.msg} at column {fault.colno}); {_SHAPE}") from fault
    except UnicodeDecodeError as fault:
        raise AnswersError(f"{path}, after line {line}: not UTF-8 text ({fault.reason})") from fault
    except (RecursionError, ValueError) as fault:
        raise AnswersError(f"{path}, line {line}: JSON nested too deeply, or a number too long; {_SHAPE}") from fault
    except (OSError, EOFError, zlib.error) as fault:
        raise AnswersError(f"{path} cannot be read: {fault}") from fault


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig"))
    return path.open(encoding="utf-8-sig")


def _is_unfinished(fault: json.JSONDecodeError, text: str) -> bool:
    """Whether a document goes on in the next lines, rather than being wrong in this one."""
    return fault.pos >= len(text.rstrip())


def _document(text: str, line: int) -> Iterator[tuple[int, Any]]:
    if len(text) >= _LONGEST_DOCUMENT:
        raise json.JSONDecodeError("a document this long must be JSON lines, one row a line", "", 0)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as fault:
        if fault.msg != "Extra data":
            raise
        raise json.JSONDecodeError("more than one document; write one row a line", text, fault.pos) from fault
    yield from _unpacked(value, line)


def _unpacked(value: Any, line: int) -> Iterator[tuple[int, Any]]:
    """A list of rows is that many rows; a list of texts, or of candidates, is one."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(row, dict | list) and not _is_candidate(row) for row in value)
    ):
        yield from ((line, row) for row in value)
    else:
        yield line, value


def _is_candidate(row: Any) -> bool:
    return isinstance(row, dict) and "candidates" not in row and "answers" not in row and "text" in row


def _row(value: Any, line: int) -> AnswerRow:
    row = {"candidates": value} if isinstance(value, list) else value
    if not isinstance(row, dict):
        raise TypeError(f"read {_shown(value)}; {_SHAPE}")
    candidates = _candidates(row)
    question = _string(row, ("question", "text")) or ""
    choices = _choices(row.get("choices")) or choices_in(question)
    kind = _kind(row, question, choices, candidates)
    gold = row.get("gold")
    return AnswerRow(
        line=line,
        question=question,
        kind=kind,
        ballots=tuple(_ballot(candidate, str(at), kind, choices) for at, candidate in enumerate(candidates, start=1)),
        choices=choices,
        id=str(row.get("id", "")),
        gold=None if gold is None else canonical(_answer(gold, "gold"), kind, choices),
    )


def _candidates(row: Mapping[str, Any]) -> list[Any]:
    if isinstance(answers := row.get("answers"), dict) and "candidates" not in row:
        found: Any = [{"voter": voter, "answer": answer} for voter, answer in answers.items()]
    else:
        found = row.get("candidates")
    if not isinstance(found, list) or not found:
        raise ValueError(f"no candidates; {_SHAPE}")
    return found


def _kind(row: Mapping[str, Any], question: str, choices: Mapping[str, str], candidates: list[Any]) -> Kind:
    kind = row.get("kind")
    if kind is not None:
        if kind not in _KINDS:
            raise ValueError(f'"kind" is {_shown(kind)}; known: {", ".join(_KINDS)}')
        return cast(Kind, kind)
    if question:
        return infer_kind(question, choices)
    said = [
        str(candidate["answer"]) for candidate in candidates if isinstance(candidate, dict) and candidate.get("answer")
    ]
    return "number" if said and all(canonical(answer, "number") for answer in said) else "open"


def _ballot(candidate: Any, place: str, kind: Kind, choices: Mapping[str, str]) -> Ballot:
    if isinstance(candidate, str):
        candidate = {"text": candidate}
    if not isinstance(candidate, dict):
        raise TypeError(f'candidate {place} is {_shown(candidate)}; it must be a text or {{"model": ..., "text": ...}}')
    text = _string(candidate, ("text",))
    if text is None and "answer" not in candidate:
        raise ValueError(f'candidate {place} has neither "text" nor "answer"')
    if "answer" in candidate:
        stated = candidate["answer"]
        answer = None if stated is None else canonical(_answer(stated, "answer"), kind, choices)
    else:
        answer = read_answer(text or "", kind, choices)
    weight, confidence = _number(candidate, "weight"), _number(candidate, "confidence")
    voter = _string(candidate, ("voter", "agent", "model")) or place
    return Ballot(voter, text or "", answer, confidence, 1.0 if weight is None else weight)


def _choices(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, list):
        value = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", value, strict=False))
    if not isinstance(value, dict) or not all(isinstance(option, str) for option in value.values()):
        raise TypeError(f'"choices" is {_shown(value)}; it must be {{"A": "...", "B": "..."}}')
    return value


def _string(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = row.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise TypeError(f'"{name}" is {_shown(value)}; it must be a string')
        return _checked(value, name)
    return None


def _checked(text: str, name: str) -> str:
    # fault_in looks at each character in Python; 100,000 rows need the two quick looks first.
    if "\0" in text or not _is_unicode(text):
        raise ValueError(f'"{name}": {fault_in(text)}')
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _answer(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f'"{name}" is {_shown(value)}; it must be a string or a number')
    return _checked(value, name)


def _number(candidate: Mapping[str, Any], name: str) -> float | None:
    value = candidate.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f'"{name}" is {_shown(value)}; it must be a number')
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f'"{name}" is {_shown(value)}, which is too large') from None


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=True)
    return shown if len(shown) <= 60 else shown[:57] + "..."
