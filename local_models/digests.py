"""Digests of files: what a lineage names data and weights by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from eot.errors import InputError


def digest_of(file: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of_all(files: Iterable[Path]) -> str:
    """SHA-256 of the files' digests, each as its 64 hex digits, one after the other; of one file its own.

    Raises:
        InputError: one cannot be read.
    """
    try:
        found = [digest_of(file) for file in files]
    except OSError as fault:
        raise InputError(f"{fault.filename} cannot be read: {fault.strerror}") from fault
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode("ascii")).hexdigest()


def weights_digests(folder: Path) -> tuple[str, ...]:
    """Those of a checkpoint's safetensors, in the order of their names."""
    return tuple(digest_of(file) for file in sorted(folder.glob("*.safetensors")))
