"""Memory for large gradients that is kept from step to step.

The C library gives a block of tens of megabytes back to the system, and the next step pays for each of its pages again:
at a few hundred tokens as much time as the gradient's own product takes. A block is lent as a tensor, and is free again
when the last tensor on it has gone, which the death of its array tells.
"""

from __future__ import annotations

import threading
import weakref

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEAST_BYTES = 4 * 2**20
"""Below this the C library keeps the memory itself."""
MOST_BLOCKS = 4
"""Two weights, and twice that while gradients are being accumulated; whoever holds more gets ordinary memory."""
_ALIGNED = 64

Bytes = npt.NDArray[np.uint8]


class Pages:
    """The blocks of one layer, as many as it once needed at the same time. They go when the layer goes."""

    def __init__(self, least: int = LEAST_BYTES) -> None:
        self._least = least
        self._blocks: list[tuple[Bytes, weakref.ref[Bytes]]] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Pages], tuple[int]]:
        """A copied or stored layer has its own, empty."""
        return Pages, (self._least,)

    def like(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape and dtype, of unset values, on kept memory if it is large and on a CPU."""
        size = tensor.numel() * tensor.element_size()
        if tensor.device.type != "cpu" or size < self._least:
            return torch.empty_like(tensor)
        with self._lock:
            block = self._free(size)
            if block is None:
                return torch.empty_like(tensor)
            lent = block[:size]
            self._blocks.append((block, weakref.ref(lent)))
        return torch.from_numpy(lent).view(tensor.dtype).view(tensor.shape)

    def _free(self, size: int) -> Bytes | None:
        """Take a free block of this size off the list, or make one while there may be more."""
        for at, (block, user) in enumerate(self._blocks):
            if user() is None and len(block) == size:
                del self._blocks[at]
                return block
        if len(self._blocks) == MOST_BLOCKS:
            unused = [at for at, (_, user) in enumerate(self._blocks) if user() is None]
            if not unused:
                return None
            del self._blocks[unused[0]]
        whole: Bytes = np.empty(size + _ALIGNED, dtype=np.uint8)
        start = -whole.ctypes.data % _ALIGNED
        return whole[start : start + size]
