"""What a training that was broken off leaves beside its model, so that the same command goes on with it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eot.errors import InputError

_LOCK, _ASKED = "lock", "asked.json"
_LONGER = {"steps", "minutes"}
"""May be raised: what was done stands."""


def work_of(out: Path) -> Path:
    """The folder of the checkpoints of the model that is to lie at `out`."""
    return out.parent / f".{out.name}.training"


@contextmanager
def alone(work: Path, name: str) -> Iterator[None]:
    """The folder, for one process at a time.

    Raises:
        InputError: another process has it.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise InputError(f"another process is training {name}: wait for it, or take another name") from fault
        yield


def begin(work: Path, asked: Mapping[str, Any], *, restart: bool) -> None:
    """A run that was broken off goes on only as it was begun; of one that has no checkpoint yet nothing is kept.

    Raises:
        InputError: it was begun otherwise.
    """
    file = work / _ASKED
    if restart or not (any(work.glob("*/checkpoint-*/whole")) or (work / "model.json").is_file()):
        _empty(work)
    elif file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if other := [key for key in asked if key not in _LONGER and before.get(key) != asked[key]]:
            was = "other data" if other[0] == "data" else f"another {other[0]} ({before.get(other[0])})"
            raise InputError(
                f"a run of this name was broken off that had begun with {was}: say the same to go on with it, or "
                "--restart to throw away its checkpoints"
            )
    file.write_text(json.dumps(asked), encoding="utf-8")


def throw_away(out: Path) -> None:
    """Delete what was left of a model that is not there yet, unless a process is at it."""
    work = work_of(out)
    if work.is_dir():
        with alone(work, out.name):
            _empty(work)
        shutil.rmtree(work, ignore_errors=True)


def _empty(work: Path) -> None:
    for old in work.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name != _LOCK:
            old.unlink()
