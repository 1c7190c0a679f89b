"""A model by name as the safetensors folder that a graft is made from."""

from __future__ import annotations

from pathlib import Path

from local_models.digests import digest_of
from local_models.weights import converted, locate


def checkpoint_of(name: str, home: Path) -> Path:
    """The folder of a catalogue name or a path; a GGUF file is unpacked to bfloat16 once, and kept.

    Raises:
        UnknownNameError: no such name and no such path.
        WeightsError: it is not on this machine, or cannot be read.
    """
    path = locate(name, home)
    if path.is_dir():
        return path
    kept = converted(digest_of(path), home) / "bfloat16"
    if not kept.is_dir():
        from local_models.transformers_load import load_model  # noqa: PLC0415  (torch takes seconds)

        load_model(path, home)
    return kept
