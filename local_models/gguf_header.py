"""The metadata at the head of a GGUF file (versions 2 and 3), read without loading the model.

llama.cpp gives a base model a made-up chat template, so whether there is a real one must be read from the file.
Layout: magic, u32 version, u64 tensors, u64 pairs; then per pair a key, a u32 type and a value, all little-endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from eot.errors import WeightsError

_SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST_ARRAY = 100_000_000

Value = int | float | bool | str


def read_header(path: Path) -> Mapping[str, Value]:
    """The scalars and strings of the metadata by key; arrays (the vocabulary) are skipped.

    Raises:
        WeightsError: not a GGUF file, cut off, or of a version that is not known.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).pairs()
    except (OSError, ValueError, struct.error, IndexError, UnicodeDecodeError) as fault:
        raise WeightsError(f"{path} is not a sound GGUF file: {fault}") from fault


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def pairs(self) -> dict[str, Value]:
        if self._data[:4] != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        version = self._scalar("<I")
        if version not in {2, 3}:
            raise ValueError(f"version {version}; versions 2 and 3 are known")
        self._scalar("<Q")
        found = {}
        for _ in range(int(self._scalar("<Q"))):
            key = self._string()
            value = self._value(int(self._scalar("<I")))
            if value is not None:
                found[key] = value
        return found

    def _value(self, kind: int) -> Value | None:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        return self._scalar(_format(kind))

    def _skip_array(self) -> None:
        kind, count = int(self._scalar("<I")), int(self._scalar("<Q"))
        if count > _LONGEST_ARRAY:
            raise ValueError(f"an array of {count:,} values")
        if kind in _SCALARS:
            self._at += count * struct.calcsize(_format(kind))
            return
        skip: Callable[[], None] = self._skip_string if kind == _STRING else self._skip_array
        for _ in range(count):
            skip()

    def _scalar(self, form: str) -> int | float | bool:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value  # type: ignore[no-any-return]  # struct is untyped

    def _string(self) -> str:
        begin = self._at + 8
        self._skip_string()
        return self._data[begin : self._at].decode()

    def _skip_string(self) -> None:
        self._at += 8 + struct.unpack_from("<Q", self._data, self._at)[0]


def _format(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"a value of unknown type {kind}")
    return _SCALARS[kind]
