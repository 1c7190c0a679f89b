"""A corpus as pieces of text: read as a stream, whatever its size, and with whatever is wrong in it passed over.

Knows nothing of tokens. A `.jsonl` file has a document a line, in its field `text` or as the line's string; a folder's
text files, and any other file, are one document each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eot.errors import InputError

PIECE = 1 << 15
"""Characters that are tokenised at once at most: a line of 10 MB is no more than many pieces."""
_LONGEST_LINE = 1 << 26
_TEXT = (".jsonl", ".md", ".py", ".rst", ".txt")


@dataclass(frozen=True)
class Piece:
    """Part of a document; `ends` it or not."""

    text: str
    ends: bool


@dataclass
class Passed:
    """What could not be used, so that it can be said: lines without text, and files with bytes that are no UTF-8."""

    lines: int = 0
    files: int = 0


def files_of(corpus: Sequence[Path]) -> list[Path]:
    """The files of a corpus, those of a folder in the order of their paths.

    Raises:
        InputError: there is no such file or folder, or a folder has no text.
    """
    found: list[Path] = []
    for path in corpus:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix in _TEXT and each.is_file())
            if not inside:
                raise InputError(f"the folder {path} has none of {', '.join(_TEXT)}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"there is no file or folder {path}")
    return found


def pieces(files: Sequence[Path], passed: Passed) -> Iterator[Piece]:
    """Read the files one after the other.

    Raises:
        InputError: a file cannot be read.
    """
    for file in files:
        try:
            yield from _lines_of(file, passed) if file.suffix == ".jsonl" else _whole(file, passed)
        except OSError as fault:
            raise InputError(f"{file} cannot be read: {fault.strerror}") from fault


def _whole(file: Path, passed: Passed) -> Iterator[Piece]:
    """The pieces of one document. Bytes that are no UTF-8 become U+FFFD, and the file is counted."""
    damaged, before = False, ""
    with file.open(encoding="utf-8", errors="replace", newline=None) as opened:
        while text := opened.read(PIECE):
            damaged = damaged or "\ufffd" in text
            if before:
                yield Piece(before, ends=False)
            before = text
    passed.files += damaged
    if before.strip():
        yield Piece(before, ends=True)


def _lines_of(file: Path, passed: Passed) -> Iterator[Piece]:
    with file.open("rb") as opened:
        while line := opened.readline(_LONGEST_LINE):
            text = _text_in(line)
            if not text.strip():
                passed.lines += 1
                continue
            starts = range(0, len(text), PIECE)
            for start in starts:
                yield Piece(text[start : start + PIECE], ends=start == starts[-1])


def _text_in(line: bytes) -> str:
    """The text of one line of JSON, or "" where there is none."""
    try:
        row = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return ""
    text = row.get("text") if isinstance(row, dict) else row
    return text if isinstance(text, str) else ""
