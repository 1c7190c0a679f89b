"""The file of results: a JSON line for each question and system, flushed as it comes, taken up again by the next run.

Nothing is held in memory but where each row lies: an exchange is long, and there may be 100,000 of them.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from eot.errors import AnswersError, EotError, InputError
from eot.types import Frozen
from evaluation.systems import Outcome


class Row(Frozen):
    """What one system made of one question, and whether that was right (None: nobody knows).

    `fingerprint` stands for all that shaped it: system, question, gold, seed. A row without an outcome is a failure,
    and says why; the next run tries again.
    """

    system: str
    question: str
    fingerprint: str = ""
    correct: bool | None = None
    outcome: Outcome | None = None
    failure: str = ""


class Results:
    """The rows in a file, found by system and question; of two rows of the same, the later counts. A context manager.

    One process writes at a time. A last line that was cut short by a death of the writer is dropped.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            InputError: it cannot be written, or another process is writing it.
            AnswersError: a line of it is no result; names file and line.
        """
        self.path = path
        self._places: dict[tuple[str, str], tuple[int, str, bool]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as fault:
            raise InputError(f"results cannot be kept in {path}: {fault}; name another folder") from fault
        try:
            self._lock()
            self._index()
        except EotError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def find(self, system: str, question: str, fingerprint: str) -> Row | None:
        """The row of this system, question and fingerprint, failures too."""
        place = self._places.get((system, question))
        if place is None or place[1] != fingerprint:
            return None
        self._file.seek(place[0])
        return Row.model_validate_json(self._file.readline())

    def succeeded(self, system: str, question: str, fingerprint: str) -> bool:
        """Whether there is such a row and it is no failure. Reads nothing."""
        place = self._places.get((system, question))
        return place is not None and place[1:] == (fingerprint, True)

    def append(self, row: Row) -> None:
        """Write a row. When it returns, a death of this process does not lose it.

        Raises:
            EotError: the disk is full, or the file cannot be written any more.
        """
        try:
            at = self._file.seek(0, 2)
            self._file.write(row.model_dump_json().encode() + b"\n")
            self._file.flush()
        except OSError as fault:
            raise EotError(
                f"{self.path} cannot be written: {fault}. The answers so far are kept: make room and run it again"
            ) from fault
        self._note(row, at)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise InputError(
                f"{self.path} is being written by another run; wait for it or name another --out"
            ) from fault

    def _index(self) -> None:
        for number, at, line in self._lines():
            try:
                self._note(Row.model_validate_json(line), at)
            except ValidationError as fault:
                said = fault.errors()[0]["msg"]
                raise AnswersError(
                    f"{self.path}, line {number}: not a result of an evaluation ({said}); move the file away, or name "
                    "another --out"
                ) from fault

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Number, place and bytes of each whole line; what comes after the last of them is cut off."""
        at = self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(at)
                return
            yield number, at, line
            at += len(line)

    def _note(self, row: Row, at: int) -> None:
        self._places[row.system, row.question] = (at, row.fingerprint, row.outcome is not None)
