"""A layer of a KV cache with room to grow: a step writes one column, and rows come and go by their own copies alone.

transformers' own layer is one tensor, copied whole for each token and for each row that leaves or joins. Axes: R rows
there is room for, C columns likewise, B rows in use, T columns in use, S heads, D their width.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        self._blocks: list[Tensor] = []
        """Keys and values; none where the model never writes this layer, since it shares another's."""
        self._start = self._end = self._rows = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_more: Any, **_named: Any) -> tuple[Tensor, Tensor]:
        """Append columns; returns all keys and all values, B S T D."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, _, new, _ = key_states.shape
        self._rows = self._rows or rows
        if not self._blocks or self._end + new > self._blocks[0].shape[2]:
            self._make_room(self._blocks or [key_states, value_states], rows, 0, new)
        for block, states in zip(self._blocks, (key_states, value_states), strict=True):
            block[:rows, :, self._end : self._end + new] = states
        self._end += new
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows, in this order. Only those that move are copied, where none moves up."""
        if not self._blocks:
            return
        chosen = indices.tolist()
        if len(chosen) <= len(self._blocks[0]) and all(source >= place for place, source in enumerate(chosen)):
            for place, source in enumerate(chosen):
                if source > place:  # nothing below `place` is read any more
                    for block in self._blocks:
                        block[place, :, self._start : self._end] = block[source, :, self._start : self._end]
        else:
            self._blocks = [block[indices] for block in self._blocks]
        self._rows = len(chosen)
        self._show()

    def join(self, other: RoomyLayer) -> None:
        """Put the other's rows below these, ending in the same column."""
        if not self._blocks:
            return
        rows, length = self._rows + other._rows, max(self._end - self._start, other._end - other._start)
        if rows > len(self._blocks[0]) or length > self._end:
            self._make_room(self._blocks, rows, length, 0)
        first = self._end - (other._end - other._start)
        for block, states in zip(self._blocks, (other.keys, other.values), strict=True):
            block[self._rows : rows, :, first : self._end] = states
        self._rows, self._start = rows, min(self._start, first)
        self._show()

    def trim(self, columns: int) -> None:
        """Forget so many of the first columns."""
        if self._blocks:
            self._start += columns
            self._show()

    def _show(self) -> None:
        window = (slice(self._rows), slice(None), slice(self._start, self._end))
        self.keys, self.values = (block[window] for block in self._blocks)

    def _make_room(self, like: Sequence[Tensor], rows: int, length: int, more: int) -> None:
        """Move to blocks with room for so many rows, for `length` columns up to the last one and `more` behind it.

        Keys and values may be of different widths.
        """
        kept = self._end - self._start
        held = len(self._blocks[0]) if self._blocks else 0
        room = held if rows <= held else rows + rows // 4 if held else rows
        end = max(kept, length)
        blocks = []
        for one, old in zip(like, (self.keys, self.values), strict=True):
            shape = (room, one.shape[1], end + more + max(COLUMNS, end // 4), one.shape[3])
            block = torch.zeros(shape, dtype=one.dtype, device=one.device)
            if kept:
                block[: len(old), :, end - kept : end] = old
            blocks.append(block)
        self._blocks = blocks
        self._start, self._end = end - kept, end
