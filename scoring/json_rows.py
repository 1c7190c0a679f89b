"""JSON values of a file, one at a time, each with its line: JSON lines, gzipped or not, or one JSON document.

Rows are read as they are asked for: 100,000 of them need no more memory than one.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from eot.errors import AnswersError
from eot.text import fault_in

_LONGEST_DOCUMENT = 64 * 1024 * 1024


def json_rows(path: Path, shape: str) -> Iterator[tuple[int, Any]]:
    """Line and value of each JSON line, or of the one document that the file is. `shape` says what a row is.

    Raises:
        AnswersError: the file cannot be read, or is not JSON; names file and line.
    """
    line = 0
    try:
        with opened(path) as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    value = json.loads(text)
                except json.JSONDecodeError as fault:
                    if not text.lstrip().startswith(("{", "[")) or not _is_unfinished(fault, text):
                        raise
                    yield line, _document(text + file.read(_LONGEST_DOCUMENT))
                    return
                yield line, value
    except FileNotFoundError:
        raise AnswersError(f"there is no file {path}") from None
    except json.JSONDecodeError as fault:
        at = line + fault.lineno - 1
        raise AnswersError(f"{path}, line {at}: not JSON ({fault.msg} at column {fault.colno}); {shape}") from fault
    except UnicodeDecodeError as fault:
        raise AnswersError(f"{path}, after line {line}: not UTF-8 text ({fault.reason})") from fault
    except (RecursionError, ValueError) as fault:
        raise AnswersError(f"{path}, line {line}: JSON nested too deeply, or a number too long; {shape}") from fault
    except (OSError, EOFError, zlib.error) as fault:
        raise AnswersError(f"{path} cannot be read: {fault}") from fault


def opened(path: Path) -> TextIO:
    """The file as text, unpacked where its name ends in `.gz`; a byte-order mark is no part of it."""
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _is_unfinished(fault: json.JSONDecodeError, text: str) -> bool:
    """Whether a document goes on in the next lines, rather than being wrong in this one."""
    return fault.pos >= len(text.rstrip())


def _document(text: str) -> Any:
    if len(text) >= _LONGEST_DOCUMENT:
        raise json.JSONDecodeError("a document this long must be JSON lines, one row a line", "", 0)
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        if fault.msg != "Extra data":
            raise
        raise json.JSONDecodeError("more than one document; write one row a line", text, fault.pos) from fault


def choices_of(value: Any) -> dict[str, str]:
    """A row's choices by letter: an object as it stands, or a list, lettered from A; {} where there are none."""
    if value is None:
        return {}
    if isinstance(value, list):
        value = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", value, strict=False))
    if not isinstance(value, dict) or not all(isinstance(option, str) for option in value.values()):
        raise TypeError(f'"choices" is {shown(value)}; it must be {{"A": "...", "B": "..."}}')
    return {checked(key, "choices"): checked(option, "choices") for key, option in value.items()}


def checked(text: str, name: str) -> str:
    """The text itself.

    Raises:
        ValueError: it holds a NUL or a lone surrogate.
    """
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


def shown(value: Any) -> str:
    """What was read, short enough for an error message."""
    shown = json.dumps(value, ensure_ascii=True, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "..."
