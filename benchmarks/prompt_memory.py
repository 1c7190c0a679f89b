"""A model that has read a prompt before need not read it again: for benchmarks that ask many methods the same.

Axes: B rows, T tokens, V vocabulary; keys and values are 1 H T D a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Read(NamedTuple):
    """What is left of a reading: each layer's keys and values, and the logits (V) behind the last token."""

    layers: list[tuple[Tensor, Tensor]]
    logits: Tensor


class Remembering:
    """Stands in for `model`. A prompt is read once, from where it parts with the one before it, and then recalled.

    What comes out is the model's own, but for the rounding that the shape of a batch makes. Prompts longer than a
    sliding window are not remembered.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._read: dict[tuple[int, ...], Read] = {}
        self._latest: tuple[int, ...] = ()
        self._longest = getattr(model.config.get_text_config(), "sliding_window", None) or 1 << 30

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forget(self) -> None:
        """Keep the latest prompt only: the next one may begin as it does."""
        self._read = {self._latest: self._read[self._latest]} if self._latest else {}

    def read(self, ids: Sequence[int]) -> Read:
        """What a prompt leaves behind."""
        row = tuple(ids)
        if row not in self._read:
            same = min(_common(row, self._latest), len(row) - 1)
            cache = self._cache()
            if same:
                _install(cache, [[(k[..., :same, :], v[..., :same, :]) for k, v in self._read[self._latest].layers]])
            fresh = torch.tensor([row[same:]], device=self._model.device)
            made = self._model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._read[row] = Read([(layer.keys, layer.values) for layer in cache.layers], made.logits[0, -1])
            self._latest = row
        return self._read[row]

    def __call__(
        self, *, input_ids: Tensor, past_key_values: Any, logits_to_keep: int, attention_mask: Any = None, **more: Any
    ) -> Any:
        if past_key_values.get_seq_length() or input_ids.shape[1] >= self._longest:
            given = {"past_key_values": past_key_values, "logits_to_keep": logits_to_keep, **more}
            return self._model(input_ids=input_ids, attention_mask=attention_mask, **given)
        if len(input_ids) == 1:
            return SimpleNamespace(logits=self._one(input_ids[0].tolist(), past_key_values, logits_to_keep)[None])
        masks = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = [self.read(ids[mask > 0].tolist()) for ids, mask in zip(input_ids, masks, strict=True)]
        _install(past_key_values, [row.layers for row in rows])
        return SimpleNamespace(logits=torch.stack([row.logits for row in rows])[:, None])

    def _one(self, row: list[int], cache: Any, count: int) -> Tensor:
        """The last `count` rows of logits (count V) behind a prompt and what has been written since."""
        known = max((len(read) for read in self._read if tuple(row[: len(read)]) == read), default=0)
        if not len(row) - count < known <= len(row):
            known = len(row) - count + 1
        read = self.read(row[:known])
        _install(cache, [read.layers])
        logits = read.logits[None]
        if rest := row[known:]:
            fresh = torch.tensor([rest], device=self._model.device)
            made = self._model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=len(rest))
            logits = torch.cat([logits, made.logits[0]])
        return logits[-count:]

    def endings(self, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[Tensor]:
        """The logits before each token of each ending (T V), all endings in one pass."""
        read, size, longest = self.read(prompt), len(prompt), max(map(len, endings))
        cache = self._cache()
        _install(cache, [read.layers] * len(endings))
        fresh = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in endings], device=self._model.device)
        mask = torch.tensor([[1] * (size + len(ids)) + [0] * (longest - len(ids)) for ids in endings])
        made = self._model(
            input_ids=fresh, attention_mask=mask.to(fresh.device), past_key_values=cache, logits_to_keep=longest
        )
        rows = zip(endings, made.logits, strict=True)
        return [torch.cat([read.logits[None], logits[: len(ids) - 1]]) for ids, logits in rows]

    def _cache(self) -> Any:
        from transformers import DynamicCache  # noqa: PLC0415  (seconds)

        return DynamicCache(config=self._model.config)


def _install(cache: Any, rows: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> None:
    """Put what B prompts left behind into an empty cache, padded on the left."""
    longest = max(layers[0][0].shape[-2] for layers in rows)
    for place, parts in enumerate(zip(*rows, strict=True)):
        keys, values = (torch.cat([_padded(part[half], longest) for part in parts]) for half in (0, 1))
        cache.update(keys, values, place)


def _padded(part: Tensor, size: int) -> Tensor:
    return torch.nn.functional.pad(part, (0, 0, size - part.shape[-2], 0))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    size = min(len(one), len(other))
    return next((place for place in range(size) if one[place] != other[place]), size)
