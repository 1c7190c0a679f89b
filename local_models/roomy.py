"""A layer of a KV cache with room to grow: a step writes one column, and rows come and go by their own copies alone.

transformers' own layer is one tensor, copied whole for each token and for each row that leaves or joins. Axes: R rows
there is room for, C columns likewise, B rows in use, T columns in use, S heads, D their width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

COLUMNS = 64
"""Columns made ahead: a layer is copied whole once in so many tokens, or in a quarter of its length."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values, each B S T D, are a window of larger blocks, which hold only finite numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._start = self._end = self._rows = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_more: Any, **_named: Any) -> tuple[Tensor, Tensor]:
        """Append columns; returns all keys and all values, B S T D."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, _, new, _ = key_states.shape
        self._rows = self._rows or rows
        if self._keys is None or self._end + new > self._keys.shape[2]:
            self._make_room(key_states, rows, 0, new)
        assert self._keys is not None
        assert self._values is not None
        self._keys[:rows, :, self._end : self._end + new] = key_states
        self._values[:rows, :, self._end : self._end + new] = value_states
        self._end += new
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows, in this order. Only those that move are copied, where none moves up."""
        chosen = indices.tolist()
        if self._keys is None or self._values is None:
            return
        if len(chosen) <= len(self._keys) and all(source >= place for place, source in enumerate(chosen)):
            for place, source in enumerate(chosen):
                if source > place:  # nothing below `place` is read any more
                    for block in (self._keys, self._values):
                        block[place, :, self._start : self._end] = block[source, :, self._start : self._end]
        else:
            self._keys, self._values = self._keys[indices], self._values[indices]
        self._rows = len(chosen)
        self._show()

    def join(self, other: RoomyLayer) -> None:
        """Put the other's rows below these, ending in the same column."""
        rows, length = self._rows + other._rows, max(self._end - self._start, other._end - other._start)
        assert self._keys is not None
        assert self._values is not None
        if rows > len(self._keys) or length > self._end:
            self._make_room(self._keys, rows, length, 0)
        first = self._end - (other._end - other._start)
        self._keys[self._rows : rows, :, first : self._end] = other.keys
        self._values[self._rows : rows, :, first : self._end] = other.values
        self._rows, self._start = rows, min(self._start, first)
        self._show()

    def trim(self, columns: int) -> None:
        """Forget so many of the first columns."""
        self._start += columns
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        assert self._keys is not None
        assert self._values is not None
        window = (slice(self._rows), slice(None), slice(self._start, self._end))
        self.keys, self.values = self._keys[window], self._values[window]
        return self.keys, self.values

    def _make_room(self, like: Tensor, rows: int, length: int, more: int) -> None:
        """Move to blocks with room for so many rows, for `length` columns up to the last one and `more` behind it."""
        kept = self._end - self._start
        room = max(rows, len(self._keys) if self._keys is not None else 0)
        if self._keys is not None and rows > len(self._keys):
            room = rows + rows // 4
        end = max(kept, length)
        shape = (room, like.shape[1], end + more + max(COLUMNS, end // 4), like.shape[3])
        blocks = []
        for old in (self.keys, self.values):
            block = torch.zeros(shape, dtype=like.dtype, device=like.device)
            if kept:
                block[: len(old), :, end - kept : end] = old
            blocks.append(block)
        self._keys, self._values = blocks
        self._start, self._end = end - kept, end
