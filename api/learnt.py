"""Where learnt weights are written: a file of their own, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from eot.errors import InputError
from evaluation.weights import HEADER


def refuse_to_overwrite(path: Path) -> None:
    """Before anything is computed: a folder, or a file that is not of weights (somebody's eot.toml), is left alone."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise InputError(f"--learn-weights: there is no folder {path.parent}") from None
        return
    except OSError as fault:
        raise InputError(f"--learn-weights: {path} cannot be written: {fault.strerror}") from fault
    if first.strip() and not first.startswith(HEADER):
        raise InputError(f"--learn-weights: {path} holds something else; name a new file, and copy the weights over")


def write_learnt(path: Path, text: str) -> None:
    """Whole or not at all: a full disk leaves the file that was there."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as fault:
        part.unlink(missing_ok=True)
        raise InputError(f"--learn-weights: {path} cannot be written: {fault.strerror}") from fault
