"""Whether a model's files are those of a mixture of experts, told without loading it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from eot.errors import InputError

_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""What transformers' classes call the number of experts."""
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Of a GGUF value, by its type; 8 is a text and 9 a list, which say their length."""
_TEXT, _LIST = 8, 9


def refuse_dense(path: Path) -> None:
    """Raise an InputError if these weights, a folder or a GGUF file, have no experts."""
    if not (_folder_has_experts(path) if path.is_dir() else _gguf_has_experts(path)):
        raise InputError(f"{path.name} is no mixture of experts: its files name none")


def _folder_has_experts(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return any(config.get(name) for name in _COUNTS)
    except (OSError, ValueError, AttributeError):
        return False


def _gguf_has_experts(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return any(key.endswith(b".expert_count") for key in _keys(opened))
    except (OSError, ValueError, LookupError, OverflowError, MemoryError, RecursionError, struct.error):
        return False


def _keys(file: BinaryIO) -> Iterator[bytes]:
    """The keys before a GGUF's tensors. `gguf.GGUFReader` builds every value first, seconds for a vocabulary."""
    magic, _version, _tensors, count = struct.unpack("<4sIQQ", file.read(24))
    if magic != b"GGUF":
        return
    for _ in range(count):
        yield file.read(_number(file, "<Q"))
        _pass(file, _number(file, "<I"))


def _pass(file: BinaryIO, kind: int) -> None:
    if kind == _TEXT:
        file.seek(_number(file, "<Q"), 1)
    elif kind == _LIST:
        item, count = struct.unpack("<IQ", file.read(12))
        if item in _BYTES:
            file.seek(count * _BYTES[item], 1)
        else:
            for _ in range(count):
                _pass(file, item)
    else:
        file.seek(_BYTES[kind], 1)


def _number(file: BinaryIO, form: str) -> int:
    return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])
