"""Tensors that are made when they are written, one at a time: a mean, a slice, a trained parameter.

Dtypes are safetensors' own names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eot.errors import WeightsError
from local_models.grafting.tensors import Checkpoint, Written
from local_models.grafting.tensors import Tensor as Stored

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


@dataclass(frozen=True)
class Computed:
    """A source whose bytes are those of what `make` returns when it is asked."""

    make: Callable[[], Tensor]

    def blocks(self, tensor: Stored) -> Iterator[memoryview]:
        made = self.make().detach().to("cpu", _DTYPES[tensor.dtype]).contiguous()
        if tuple(made.shape) != tensor.shape:
            raise WeightsError(f"{tensor.name} came out as {tuple(made.shape)} and should be {tensor.shape}")
        bytes_: Any = made.view(torch.uint8).flatten().numpy()
        yield memoryview(bytes_)


def computed(name: str, shape: Sequence[int], dtype: str, make: Callable[[], Tensor]) -> Written:
    """A tensor to write that is made then; `shape` and `dtype` are said before, for the file's header."""
    size = _DTYPES[dtype].itemsize
    for length in shape:
        size *= length
    return Written(name, Stored(name, dtype, tuple(shape), Path(), 0, size), Computed(make))


def read(checkpoint: Checkpoint, name: str) -> Tensor:
    """One tensor of a checkpoint, in float32 unless it is float64.

    Raises:
        WeightsError: there is none, or it is quantised.
    """
    stored, dtype = checkpoint.tensor(name), dtype_of(checkpoint, name)
    whole = bytearray()
    for block in checkpoint.blocks(stored):
        whole += block
    found = torch.frombuffer(whole, dtype=dtype).view(stored.shape)
    return found if found.dtype == torch.float64 else found.float()


def dtype_of(checkpoint: Checkpoint, name: str) -> torch.dtype:
    """What one tensor of a checkpoint is stored in.

    Raises:
        WeightsError: there is none, or it is quantised.
    """
    stored = checkpoint.tensor(name).dtype
    if stored not in _DTYPES:
        raise WeightsError(f"{name} of {checkpoint.folder} is of type {stored}; give a checkpoint of floats")
    return _DTYPES[stored]
