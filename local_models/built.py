"""Models that were made here, by name: each is a whole safetensors folder `HOME/built/NAME`, or one `NAME.gguf`."""

from __future__ import annotations

import re
from pathlib import Path

from eot.errors import InputError
from local_models.catalogue import CATALOGUE

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def built(name: str, home: Path) -> Path | None:
    """The folder, or the GGUF file, of the model that was made under this name; None where there is none."""
    if not _NAME.fullmatch(name):
        return None
    folder, file = _places(name, home)
    if file.is_file():
        return file
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")) else None


def all_built(home: Path) -> dict[str, Path]:
    """Every model that was made here."""
    names = sorted(path.name.removesuffix(".gguf") for path in (home / "built").glob("[!.]*"))
    return {name: place for name in names if (place := built(name, home))}


def place_for(name: str, home: Path) -> Path:
    """Where a new model of this name is to lie.

    Raises:
        InputError: the name cannot be used, or is taken.
    """
    if not _NAME.fullmatch(name) or name.endswith(".gguf"):
        raise InputError(
            f"{name!r} is no name for a model: write 1 to 64 of a-z, 0-9, . _ -, a letter or digit first, no .gguf last"
        )
    if name in CATALOGUE or any(place.exists() for place in _places(name, home)):
        raise InputError(f"there is a model called {name} already; take another name")
    return _places(name, home)[0]


def _places(name: str, home: Path) -> tuple[Path, Path]:
    return home / "built" / name, home / "built" / f"{name}.gguf"
