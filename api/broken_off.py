"""What a training that was broken off leaves beside its model, so that the same command goes on with it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eot.errors import DiskFullError, InputError
from local_models.training.checkpoints import write_whole

_LOCK, _ASKED = "lock", "asked.json"
_LONGER = {"steps", "minutes"}
"""May change: what was done stands."""
_SAID = {
    "data": "other data",
    "weights": "a model whose weights have changed since",
    "control_weights": "a control whose weights have changed since",
}


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
        DiskFullError: what was asked for cannot be written down.
    """
    file, before = work / _ASKED, None
    if restart or not (any(work.glob("*/checkpoint-*/whole")) or (work / "model.json").is_file()):
        _empty(work)
    elif file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if other := [key for key in asked if key not in _LONGER and before.get(key) != asked[key]]:
            was = _SAID.get(other[0]) or f"another {other[0]} ({before.get(other[0])})"
            raise InputError(
                f"a run of this name was broken off that had begun with {was}: say the same to go on with it, or "
                "--restart to throw away its checkpoints"
            )
    if before != asked:
        try:
            write_whole(file, json.dumps(asked))
        except OSError as fault:
            raise DiskFullError(f"{file} cannot be written: {fault.strerror}; what was there stands") from fault


def throw_away(out: Path) -> int:
    """Delete what was left of a model that is not there yet; return the bytes that were freed.

    Raises:
        InputError: a process is at it.
    """
    work = work_of(out)
    if not work.is_dir():
        return 0
    freed = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    with alone(work, out.name):
        _empty(work)
    shutil.rmtree(work, ignore_errors=True)
    return freed


def _empty(work: Path) -> None:
    for old in work.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name != _LOCK:
            old.unlink()
