"""Weights that lie on this disk: which ones are there and proven, taking one in, throwing one away.

Everything of a model lies under `HOME/models/NAME/`. Beside the file stands `verified.json`: its size and time when
its digest was last computed, so that a start need not read a gigabyte again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eot.errors import DigestError, UnknownNameError, WeightsError
from local_models.built import all_built, built
from local_models.catalogue import CATALOGUE, Model, find, own_path
from local_models.digests import digest_of

_LOCK = ".lock"
_log = logging.getLogger(__name__)


def folder_of(model: Model, home: Path) -> Path:
    return home / "models" / model.name


def locate(name: str, home: Path) -> Path:
    """The path of a model's weights: a GGUF file or a folder.

    `name` is a catalogue name, that of a model which was made here, or the user's own path.

    Raises:
        UnknownNameError: no such name and no such path.
        WeightsError: it is in the catalogue and has not been pulled.
        DigestError: the file on disk is not the one that was pulled; it has been put aside.
    """
    if own := built(name, home) or own_path(name):
        return own
    if name not in CATALOGUE:
        raise UnknownNameError("model", name, (*CATALOGUE, *all_built(home)))
    try:
        if path := at_home(find(name), home):
            return path
    except DigestError as fault:
        raise DigestError(f"{fault}; bring it anew with: eot models pull {name}") from fault
    raise WeightsError(f"{name} is not on this machine; bring it with: eot models pull {name}")


def on_disk(name: str, home: Path) -> Path | None:
    """The path of a catalogue model that is here and proven, or None. Computes the digest only if the file changed.

    A file that is not what the catalogue promises is put aside and the log told: the model then has to be pulled.

    Raises:
        UnknownNameError: the catalogue has no such model.
    """
    try:
        return at_home(find(name), home)
    except DigestError as fault:
        _log.warning("%s", fault)
        return None


def at_home(model: Model, home: Path) -> Path | None:
    """As `on_disk`, of an entry that need not be in the catalogue.

    Raises:
        DigestError: the file is not the promised one; it has been put aside.
    """
    folder = folder_of(model, home)
    file = folder / model.file
    if not file.is_file() or not all((folder / other).is_file() for other in model.companions):
        return None
    if _read_marker(folder) != _marker(model, file):
        refuse_wrong(file, model, digest_of(file))
        write_marker(model, folder)
    return file if model.kind == "gguf" else folder


def remove(name: str, home: Path) -> int:
    """Delete a catalogue model with all that was kept aside or made of it, or a model that was made here.

    Return the bytes that were freed.
    """
    if (made := built(name, home)) and made.is_file():
        freed = made.stat().st_size
        made.unlink()
        return freed
    if made:
        freed = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        shutil.rmtree(made)
        return freed
    model = find(name)
    return _empty(folder_of(model, home)) + _empty(converted(model.sha256, home))


def converted(digest: str, home: Path) -> Path:
    """Where the file with this digest lies in other forms."""
    return home / "converted" / digest


def _empty(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    with only_one(folder):
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:  # another process may wait on it
                path.unlink()
    return freed


def refuse_wrong(file: Path, model: Model, digest: str) -> None:
    """Put `file` aside unless `digest` is the promised one.

    Raises:
        DigestError: with both digests and where the file is now.
    """
    if digest != model.sha256:
        raise DigestError(
            f"{model.name}: the file's SHA-256 is {digest}, promised was {model.sha256}; "
            f"it is kept aside as {put_aside(file, folder_file=model.file, digest=digest)}"
        )


def put_aside(file: Path, *, folder_file: str, digest: str) -> Path:
    """Rename a refused file to `NAME.rejected-DIGEST`, in the folder of the model."""
    folder = next(parent for parent in file.parents if parent.name != "incoming")
    return file.replace(folder / f"{folder_file}.rejected-{digest[:12]}")


def take_in(model: Model, came: Path, folder: Path) -> None:
    """Move a proven file into its place, for good even if the power fails in this moment."""
    with came.open("rb") as file:
        os.fsync(file.fileno())
    came.replace(folder / model.file)
    write_marker(model, folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """One process at a time in this folder; the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _marker(model: Model, file: Path) -> dict[str, object]:
    state = file.stat()
    return {"sha256": model.sha256, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def write_marker(model: Model, folder: Path) -> None:
    (folder / "verified.json").write_text(json.dumps(_marker(model, folder / model.file)), encoding="utf-8")


def _read_marker(folder: Path) -> object:
    try:
        return json.loads((folder / "verified.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
