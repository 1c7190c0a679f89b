"""A new model's folder, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eot.errors import InputError, WeightsError


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A fresh folder to write into; in the end it becomes `out`, unless something failed.

    Raises:
        InputError: `out` exists.
        WeightsError: the disk is full, or nothing can be written there.
    """
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as fresh:
            folder = Path(fresh) / out.name
            folder.mkdir()
            yield folder
            folder.rename(out)
    except OSError as fault:
        raise WeightsError(f"{out} cannot be written: {fault.strerror or fault}; nothing is left") from fault
