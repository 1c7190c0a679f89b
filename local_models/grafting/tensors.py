"""Safetensors files as bytes: read by name, and written one tensor at a time, so that nothing is held in memory.

The format: 8 bytes of little-endian length, a JSON header {name: {dtype, shape, data_offsets}}, the data.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from eot.errors import WeightsError

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4 * 2**30
_LONGEST_HEADER = 100 * 2**20
_BLOCK = 8 * 2**20
_NOT_BY_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.EIO)
"""Two file systems, or one that does not do it: the bytes then come through this process."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: where its bytes lie, and what they are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int


class Checkpoint:
    """A folder with `*.safetensors`. A context manager: files stay mapped while it is open."""

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Raises:
            WeightsError: there are no such files, or one is damaged.
        """
        self.folder = folder
        self._open = ExitStack()
        self._maps: dict[Path, mmap.mmap] = {}
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise WeightsError(f"{folder} has no *.safetensors; a graft is made from a safetensors folder")
        self.tensors = {tensor.name: tensor for file in files for tensor in _header(file)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def tensor(self, name: str) -> Tensor:
        """One of its tensors.

        Raises:
            WeightsError: there is none of this name.
        """
        if name not in self.tensors:
            raise WeightsError(f"{self.folder} has no tensor {name}")
        return self.tensors[name]

    def copy(self, tensor: Tensor, into: int) -> bool:
        """Have the kernel copy the tensor's bytes to where this descriptor stands; False where it cannot, at once."""
        with tensor.file.open("rb") as file:
            done = 0
            while done < tensor.size:
                try:
                    copied = os.copy_file_range(file.fileno(), into, tensor.size - done, tensor.start + done)
                except OSError as fault:
                    if done or fault.errno not in _NOT_BY_KERNEL:
                        raise
                    return False
                if not copied:
                    raise WeightsError(f"{tensor.file} was cut off while it was copied")
                done += copied
        return True

    def blocks(self, tensor: Tensor) -> Iterator[memoryview]:
        """The tensor's bytes, a block at a time, straight from the mapped file."""
        if tensor.file not in self._maps:
            file = self._open.enter_context(tensor.file.open("rb"))
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[tensor.file] = self._open.enter_context(mapped)
        mapped = self._maps[tensor.file]
        for start in range(tensor.start, tensor.start + tensor.size, _BLOCK):
            end = min(start + _BLOCK, tensor.start + tensor.size)
            with memoryview(mapped)[start:end] as block:
                yield block
        first, last = tensor.start // mmap.PAGESIZE * mmap.PAGESIZE, tensor.start + tensor.size
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)  # read once: it must not pile up in memory


def _header(file: Path) -> Iterator[Tensor]:
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header: dict[str, Any] = json.loads(opened.read(min(length, _LONGEST_HEADER)))
        header.pop("__metadata__", None)
        places = {name: (told["dtype"], tuple(told["shape"]), *told["data_offsets"]) for name, told in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise WeightsError(f"{file} is no safetensors file, or is damaged: {fault}") from fault
    data, end = 8 + length, file.stat().st_size
    for name, (dtype, shape, start, stop) in places.items():
        if data + stop > end:
            raise WeightsError(f"{file} is shorter than it says: it was cut off")
        yield Tensor(name, dtype, shape, file, data + start, stop - start)


class Source(Protocol):
    """Where a tensor's bytes come from: a checkpoint, or something that makes them when they are written."""

    def blocks(self, tensor: Tensor) -> Iterator[memoryview]: ...


@dataclass(frozen=True)
class Written:
    """A tensor to write: its name there, and where its bytes come from (None: zeros)."""

    name: str
    like: Tensor
    source: Source | None


def write(folder: Path, tensors: Sequence[Written]) -> int:
    """Write the shards and, where there are several, their index; return the bytes written.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    shards = list(_shards(tensors))
    names = [f"model-{at:05}-of-{len(shards):05}.safetensors" for at in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    total = sum(_write_shard(folder / name, shard) for name, shard in zip(names, shards, strict=True))
    if len(shards) > 1:
        where = {one.name: name for name, shard in zip(names, shards, strict=True) for one in shard}
        size = sum(one.like.size for one in tensors)
        index: Mapping[str, Any] = {"metadata": {"total_size": size}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    return total


def _shards(tensors: Iterable[Written]) -> Iterator[list[Written]]:
    shard: list[Written] = []
    size = 0
    for one in tensors:
        if shard and size + one.like.size > SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(one)
        size += one.like.size
    if shard:
        yield shard


def _write_shard(path: Path, tensors: Sequence[Written]) -> int:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for one in tensors:
        shape = list(one.like.shape)
        header[one.name] = {"dtype": one.like.dtype, "shape": shape, "data_offsets": [at, at + one.like.size]}
        at += one.like.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for one in tensors:
            file.flush()
            if isinstance(one.source, Checkpoint) and one.source.copy(one.like, file.fileno()):
                continue
            for block in one.source.blocks(one.like) if one.source else _zeros(one.like.size):
                file.write(block)
    return path.stat().st_size


def _zeros(size: int) -> Iterator[bytes]:
    for start in range(0, size, _BLOCK):
        yield bytes(min(_BLOCK, size - start))
