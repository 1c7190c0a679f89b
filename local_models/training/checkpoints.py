"""Checkpoints of a training run: which one is whole, and what is thrown away when.

A process can die at any byte. A checkpoint counts once it has its mark, which is written when all else is on disk;
older ones go only then. So there is always one that is whole, from the first on, even if the disk fills up.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_MARK = "whole"


def last_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint; what is in its way (newer, cut off) is deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)
    for checkpoint in found:
        if (checkpoint / _MARK).is_file():  # it is there only with all that is written in it
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def seconds_of(checkpoint: Path | None) -> float:
    """How long the run had lasted when it was written."""
    return float((checkpoint / _MARK).read_text(encoding="utf-8")) if checkpoint else 0.0


def mark(folder: Path, step: int, seconds: float) -> None:
    """The checkpoint of this step is whole: put it on disk for good, mark it, and delete those before it."""
    checkpoint = folder / f"checkpoint-{step}"
    for file in (*checkpoint.iterdir(), checkpoint):
        _flush(file)
    write_whole(checkpoint / _MARK, f"{seconds:.3f}")
    for other in folder.glob("checkpoint-*"):
        if other != checkpoint:
            shutil.rmtree(other)


def write_whole(file: Path, text: str) -> None:
    """The file is the old one or the new one, whatever happens, and on the disk when this returns.

    Raises:
        OSError: the disk is full, say; the old one stays.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        _flush(part)
        part.replace(file)
        _flush(file.parent)
    finally:
        part.unlink(missing_ok=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
