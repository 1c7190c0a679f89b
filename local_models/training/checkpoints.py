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
        if (checkpoint / _MARK).is_file():
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def seconds_of(checkpoint: Path | None) -> float:
    """How long the run had lasted when it was written."""
    return float((checkpoint / _MARK).read_text(encoding="ascii")) if checkpoint else 0.0


def mark(folder: Path, step: int, seconds: float) -> None:
    """The checkpoint of this step is whole: put it on disk for good, mark it, and delete those before it."""
    checkpoint = folder / f"checkpoint-{step}"
    for file in (*checkpoint.iterdir(), checkpoint):
        _flush(file)
    (checkpoint / _MARK).write_text(f"{seconds:.3f}", encoding="ascii")
    _flush(checkpoint / _MARK)
    _flush(checkpoint)
    for other in folder.glob("checkpoint-*"):
        if other != checkpoint:
            shutil.rmtree(other)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
