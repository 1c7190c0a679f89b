"""Answers from anywhere, read from a file for a vote: JSON lines, gzipped or not, or one JSON document.

A row is `{"question": ..., "candidates": [{"model": ..., "text": ..., "answer": ...}, ...]}`, or `{"answers": {voter:
answer}}`, or a plain list of texts. Rows are read one at a time: 100,000 of them need no more memory than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from eot.errors import AnswersError
from eot.types import Kind
from scoring.ballots import Ballot
from scoring.json_rows import checked, choices_of, json_rows, shown
from scoring.kind import choices_in, infer_kind, kind_with_gold
from scoring.read import canonical, read_answer

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
    rows = ((line, row) for line, value in json_rows(path, _SHAPE) for row in _unpacked(value))
    for line, value in rows:
        empty = False
        try:
            yield answer_row(value, line)
        except (ValueError, TypeError) as fault:
            raise AnswersError(f"{path}, line {line}: {fault}") from fault
    if empty:
        raise AnswersError(f"{path} has no rows; {_SHAPE}")


def _unpacked(value: Any) -> list[Any]:
    """A list of rows is that many rows; a list of texts, or of candidates, is one."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(row, dict | list) and not _is_candidate(row) for row in value)
    ):
        return value
    return [value]


def _is_candidate(row: Any) -> bool:
    return isinstance(row, dict) and "candidates" not in row and "answers" not in row and "text" in row


def answer_row(value: Any, line: int = 1) -> AnswerRow:
    """One row, from the value that JSON gives.

    Raises:
        ValueError, TypeError: it is not what it should be.
    """
    row = {"candidates": value} if isinstance(value, list) else value
    if not isinstance(row, dict):
        raise TypeError(f"read {shown(value)}; {_SHAPE}")
    candidates = _candidates(row)
    question = _string(row, ("question", "text")) or ""
    choices = choices_of(row.get("choices")) or choices_in(question)
    kind = _kind(row, question, choices, candidates)
    return AnswerRow(
        line=line,
        question=question,
        kind=kind,
        ballots=tuple(_ballot(candidate, str(at), kind, choices) for at, candidate in enumerate(candidates, start=1)),
        choices=choices,
        id=str(row.get("id", "")),
        gold=_gold(row, kind, choices),
    )


def _gold(row: Mapping[str, Any], kind: Kind, choices: Mapping[str, str]) -> str | None:
    value = row.get("gold")
    if value is None:
        return None
    gold = canonical(_answer(value, "gold"), kind, choices)
    if gold is None:
        named = "" if row.get("kind") else '; say "kind" if it is of another'
        raise ValueError(f'"gold" is {shown(value)}, which is no answer to a question of kind {kind}{named}')
    return gold


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
            raise ValueError(f'"kind" is {shown(kind)}; known: {", ".join(_KINDS)}')
        return cast(Kind, kind)
    if question and row.get("gold") is not None:
        return kind_with_gold(question, choices, _answer(row["gold"], "gold"))
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
        raise TypeError(f'candidate {place} is {shown(candidate)}; it must be a text or {{"model": ..., "text": ...}}')
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


def _string(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = row.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise TypeError(f'"{name}" is {shown(value)}; it must be a string')
        return checked(value, name)
    return None


def _answer(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f'"{name}" is {shown(value)}; it must be a string or a number')
    return checked(value, name)


def _number(candidate: Mapping[str, Any], name: str) -> float | None:
    value = candidate.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f'"{name}" is {shown(value)}; it must be a number')
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f'"{name}" is {shown(value)}, which is too large') from None
