"""Labelled questions from a file: JSON lines or CSV, gzipped or not, one at a time.

A row is `{"id", "text", "kind", "choices", "answer", "context"}`; only `text` must be there (`question` and `gold` may
stand for `text` and `answer`, as in files of recorded answers). A CSV file names these columns in its first row and
gives choices as JSON or as columns A, B, C... What is not asked for is not read: other keys are left alone.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from eot.errors import AnswersError
from eot.types import Kind, Question
from scoring import canonical, choices_in, infer_kind, kind_with_gold
from scoring.json_rows import checked, choices_of, json_rows, opened, shown

_SHAPE = 'a row is {"id": ..., "text": ..., "kind": ..., "choices": ..., "answer": ...}'
_LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question of known kind, what the right answer is, and the line of its file.

    `gold` is canonical; for an open question the reference text as it stands; None where the file gives none.
    """

    question: Question
    gold: str | None
    line: int

    @property
    def kind(self) -> Kind:
        assert self.question.kind is not None, "rows are read with their kind"
        return self.question.kind


def read_questions(path: Path) -> Iterator[Labelled]:
    """The questions of a file, one at a time; 100,000 rows cost the memory of their ids. No id: "line-N".

    Raises:
        AnswersError: the file cannot be read or is empty, or a row cannot be used (no text, an unknown kind, a gold
            that does not parse for its kind, an id that was there before); names file and line.
    """
    seen: dict[str, int] = {}
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    rows = _csv_rows(path) if plain.suffix.lower() == ".csv" else _json_rows(path)
    for line, row in rows:
        try:
            found = _labelled(row, line)
        except (ValueError, TypeError) as fault:
            raise AnswersError(f"{path}, line {line}: {_said(fault)}") from fault
        if (first := seen.setdefault(found.question.id, line)) != line:
            raise AnswersError(f"{path}, line {line}: the id {found.question.id!r} was used in line {first} already")
        yield found
    if not seen:
        raise AnswersError(f"{path} has no rows; {_SHAPE}")


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    for line, value in json_rows(path, _SHAPE):
        if isinstance(value, list):
            raise AnswersError(f"{path}, line {line}: a list; write one object a line: {_SHAPE}")
        yield line, value


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Each row with the line it begins in; a cell left empty counts as not given."""
    line = 0
    try:
        with opened(path) as file:
            table = csv.DictReader(file, strict=True)
            if missing := _lacks(table.fieldnames):
                raise AnswersError(f"{path}, line 1: {missing}")
            line = table.line_num
            for row in table:
                begins, line = line + 1, table.line_num
                yield begins, _cells(row)
    except FileNotFoundError:
        raise AnswersError(f"there is no file {path}") from None
    except csv.Error as fault:
        raise AnswersError(f"{path}, line {line + 1}: not CSV ({fault})") from fault
    except UnicodeDecodeError as fault:
        raise AnswersError(f"{path}, after line {line}: not UTF-8 text ({fault.reason})") from fault
    except (OSError, EOFError, zlib.error) as fault:
        raise AnswersError(f"{path} cannot be read: {fault}") from fault


def _lacks(columns: Any) -> str:
    names = list(columns or ())
    if not names or {"text", "question"} & set(names):
        return ""
    return f"the first row must name the columns, `text` among them; it reads: {', '.join(names)[:80]}"


def _cells(row: dict[Any, Any]) -> dict[str, Any]:
    cells = {name: cell for name, cell in row.items() if name is not None and cell not in (None, "")}
    if None in row:
        cells["_more"] = row[None]
    return cells


def _labelled(row: Any, line: int) -> Labelled:
    if not isinstance(row, dict):
        raise TypeError(f"read {shown(row)}; {_SHAPE}")
    if more := row.get("_more"):
        raise ValueError(f"more cells than columns: {shown(more)}; put a text with commas in quotes")
    text = row.get("text", row.get("question"))
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'"text" is {shown(text)}; a row needs the question\'s text')
    choices = _choices(row) or choices_in(text)
    gold = _stated(row)
    kind = row.get("kind") or (infer_kind(text, choices) if gold is None else kind_with_gold(text, choices, gold))
    if kind not in get_args(Kind):
        raise ValueError(f'"kind" is {shown(kind)}; known: {", ".join(get_args(Kind))}')
    if kind == "choice" and len(choices) < 2:
        raise ValueError('a question of kind "choice" needs two choices or more, beside its text or in it')
    question = Question(
        text=text,
        kind=kind,
        choices=choices if kind == "choice" else {},
        context=row.get("context") or "",
        id=_id(row.get("id"), line),
    )
    return Labelled(question, None if gold is None else _gold(gold, question, row), line)


def _id(value: Any, line: int) -> str:
    if value is None:
        return f"line-{line}"
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f'"id" is {shown(value)}; it must be a string or a whole number')
    return checked(str(value), "id")


def _choices(row: Mapping[str, Any]) -> dict[str, str]:
    value = row.get("choices")
    if isinstance(value, str):
        value = json.loads(value)
    if value is None:
        value = {letter: row[letter] for letter in _LETTERS if row.get(letter) is not None}
    return choices_of(value)


def _stated(row: Mapping[str, Any]) -> str | None:
    """The gold as the row states it, as text."""
    value = row.get("answer", row.get("gold"))
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float | str):
        raise TypeError(f'"answer" is {shown(value)}; it must be a string or a number')
    return checked(str(value), "answer")


def _gold(stated: str, question: Question, row: Mapping[str, Any]) -> str:
    kind: Kind = question.kind or "open"
    gold = stated.strip() if kind == "open" else canonical(stated, kind, question.choices)
    if not gold:
        named = "" if row.get("kind") else ' (read from the text; say "kind" if it is another)'
        options = f"; its choices: {', '.join(question.choices)}" if kind == "choice" else ""
        raise ValueError(
            f'"answer" is {shown(stated)}, which is no answer to a question of kind {kind}{named}{options}'
        )
    return gold


def _said(fault: Exception) -> str:
    if isinstance(fault, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}".removeprefix(": ").replace("Value error, ", "")
            for error in fault.errors()
        )
    if isinstance(fault, json.JSONDecodeError):
        return f'"choices" is not JSON ({fault.msg})'
    return str(fault)
