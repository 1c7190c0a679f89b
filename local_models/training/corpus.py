"""A corpus as pieces of text: read as a stream, whatever its size, and with whatever is wrong in it passed over.

Knows nothing of tokens. A `.jsonl` or `.json` file has a document a line, in its field `text` or as the line's string;
a folder's text files, and any other file, are one document each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from eot.errors import InputError

PIECE = 1 << 15
"""Characters that are tokenised at once at most: a line of 10 MB is no more than many pieces."""
_LONGEST_LINE = 1 << 28
_LINES = (".json", ".jsonl")
_TEXT = (*_LINES, ".md", ".py", ".rst", ".txt")
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1": "parquet",
    b"%PDF": "PDF",
}
"""How files begin that look like no text to anybody, but decode as some."""


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


def files_of(corpus: Sequence[Path]) -> tuple[list[Path], int]:
    """The files of a corpus, those of a folder in the order of their paths; and how many others a folder has.

    Raises:
        InputError: there is no such file or folder, a folder has no text, or a file is packed.
    """
    found: list[Path] = []
    others = 0
    for path in corpus:
        if path.is_dir():
            files = [each for each in path.rglob("*") if each.is_file()]
            inside = sorted(each for each in files if each.suffix in _TEXT)
            if not inside:
                raise InputError(f"the folder {path} has none of {', '.join(_TEXT)}")
            found += inside
            others += len(files) - len(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"there is no file or folder {path}")
    for file in found:
        _refuse_packed(file)
    return found, others


def _refuse_packed(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
    except OSError as fault:
        raise InputError(f"{file} cannot be read: {fault.strerror}") from fault
    if packed := next((kind for magic, kind in _PACKED.items() if start.startswith(magic)), None):
        raise InputError(f"{file} is no text but {packed}: unpack it, to plain text or to JSON lines with `text`")


def pieces(files: Sequence[Path], passed: Passed) -> Iterator[Piece]:
    """Read the files one after the other.

    Raises:
        InputError: a file cannot be read.
    """
    for file in files:
        try:
            yield from _lines_of(file, passed) if file.suffix in _LINES else _whole(file, passed)
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
            text = _text_in(line) if _whole_line(line, opened) else ""
            if not text.strip():
                passed.lines += 1
                continue
            starts = range(0, len(text), PIECE)
            for start in starts:
                yield Piece(text[start : start + PIECE], ends=start == starts[-1])


def _whole_line(line: bytes, opened: BinaryIO) -> bool:
    """Whether this is all of the line; of one that is too long the rest is skipped."""
    if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
        return True
    while (rest := opened.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
        pass
    return False


def _text_in(line: bytes) -> str:
    """The text of one line of JSON, or "" where there is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested without end
        return ""
    text = row.get("text") if isinstance(row, dict) else row
    return readable(text) if isinstance(text, str) else ""


def readable(text: str) -> str:
    """Half a pair of surrogates, as a cut emoji leaves it in JSON, becomes "?": no tokenizer reads it."""
    return text.encode("utf-8", "replace").decode("utf-8")
