"""What a causal LM has read of several rows: its KV cache, to which rows are added and from which they leave.

Axes: B rows, T tokens so far, V vocabulary. Rows are padded on the left, so that the last column is each row's newest
token; what a mask hides in the middle takes no position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as _pad


class Lane:
    """One model's side of a batch: what it has read lies in its cache, what it is to read next in `ids`."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad: int) -> None:
        from transformers import DynamicCache  # noqa: PLC0415  (seconds)

        from local_models.roomy import RoomyLayer  # noqa: PLC0415

        self.model = model
        self.ids, self.mask = left_padded(prompts, pad, model.device)
        self.cache = DynamicCache(config=model.config)
        if joinable(model):
            self.cache.layers = [RoomyLayer() for _ in self.cache.layers]

    def logits(self) -> Tensor:
        """Read on; return the logits of each row's next token, B V."""
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]  # B T: padding takes no position
        return self.model(  # type: ignore[no-any-return]
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def spread(self, rows: list[int]) -> None:
        """Go on with these rows, one and the same as often as it is named."""
        index = torch.tensor(rows, device=self.mask.device, dtype=torch.long)
        self.mask = self.mask[index]
        self.cache.batch_select_indices(index)

    def read_on(self, prompts: Sequence[Sequence[int]], pad: int) -> None:
        """Give each row more to read at once, of unlike lengths: the padding then lies in the middle."""
        self.ids, mask = left_padded(prompts, pad, self.mask.device)
        self.mask = torch.cat([self.mask, mask], dim=1)

    def join(self, other: Lane) -> None:
        """Put the other's rows below these; both have read all that they were given."""
        self._trim()
        longest = max(self.mask.shape[1], other.mask.shape[1])
        for mine, others in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.join(others)
        masks = [_pad(mask, (longest - mask.shape[1], 0)) for mask in (self.mask, other.mask)]
        self.mask = torch.cat(masks)

    def _trim(self) -> None:
        """Columns that are padding in every row, left by a longer row that has gone, need not be dragged along."""
        empty = int(self.mask.any(0).int().argmax())
        if empty:
            self.mask = self.mask[:, empty:]
            for layer in self.cache.layers:
                layer.trim(empty)

    def go_on(self, tokens: Tensor, keep: list[int]) -> None:
        """Take each row's next token (B); only the rows at the places `keep` stay."""
        device = self.mask.device
        if len(keep) < len(tokens):
            index = torch.tensor(keep, device=device, dtype=torch.long)
            self.mask = self.mask[index]
            self.cache.batch_select_indices(index)
            tokens = tokens[index.to(tokens.device)]
        self.ids = tokens[:, None].to(device)  # B 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(keep), 1)], dim=1)


def joinable(model: Any) -> bool:
    """Whether lanes of this model can be joined and read on: not where a layer keeps less than all it has read."""
    from transformers import DynamicCache  # noqa: PLC0415  (seconds)
    from transformers.cache_utils import DynamicLayer  # noqa: PLC0415

    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def left_padded(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask, both B T, T the longest prompt; the mask is 1 where there is a token."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
