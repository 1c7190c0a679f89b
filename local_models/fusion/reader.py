"""One member reading one reply: its ids, and a KV cache that is cropped, never rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from eot.errors import CallError, InputError
from local_models.transformers_engine import TransformersEngine


class FullError(Exception):
    """The reply has come to the end of a member's context."""


class Reader:
    """`ids` are the prompt and the reply so far, some of them not yet read."""

    def __init__(self, member: TransformersEngine, prompt: Sequence[int]) -> None:
        self.member = member
        self.ids = list(prompt)
        self._cache = _cache_of(member)
        self._read = 0

    def rows(self, count: int) -> Tensor:
        """Read on; return the logits that follow each of the last `count` ids, count V, as the model gives them.

        Raises:
            FullError: they do not fit the member's context.
        """
        if len(self.ids) > self.member.context_tokens:
            raise FullError
        self._forget(min(self._read, len(self.ids) - count))
        fresh = torch.tensor([self.ids[self._read :]], device=self.member.model.device)  # 1 T
        logits: Tensor = named(
            self.member.name,
            lambda: (
                self.member.model(
                    input_ids=fresh, past_key_values=self._cache, use_cache=True, logits_to_keep=count
                ).logits
            ),
        )
        self._read = len(self.ids)
        return logits[0]

    def crop(self, length: int) -> None:
        """Forget the ids from place `length` on."""
        del self.ids[length:]
        self._forget(min(self._read, length))

    @property
    def is_full(self) -> bool:
        return len(self.ids) >= self.member.context_tokens

    def _forget(self, length: int) -> None:
        """Crop the cache to `length` ids. Not by its own `crop`: that trims a sliding window for good each time."""
        if (count := self._read - length) <= 0:
            return
        for layer in self._cache.layers:
            if not layer.is_initialized:
                continue  # it shares another layer's keys
            layer.keys, layer.values = layer.keys[..., :-count, :], layer.values[..., :-count, :]
            if layer.is_sliding:
                layer.cumulative_length -= count
        self._read = length


def refuse_uncroppable(member: TransformersEngine) -> None:
    """Refuse a member whose memory of the text cannot be taken back, such as a recurrent state.

    Raises:
        InputError: with its name.
    """
    if not all(getattr(layer, "is_croppable", False) for layer in _cache_of(member).layers):
        raise InputError(
            f"{member.name} keeps a state that cannot be cropped: it can be fused token by token "
            "with a model of the same vocabulary (draft = 0), and not otherwise"
        )


def _cache_of(member: TransformersEngine) -> Any:
    from transformers import DynamicCache  # noqa: PLC0415  (seconds)

    cache = DynamicCache(config=member.model.config)
    cache.activate_past_recording()  # else a sliding window forgets what a crop would bring back
    return cache


def named(name: str, step: Callable[[], Any]) -> Any:
    """Run a member's forward pass; what fails in it, out of memory above all, is put down to that member.

    Raises:
        CallError: with the member's name and torch's reason.
    """
    try:
        return step()
    except RuntimeError as fault:
        raise CallError(f"{name}: {fault}") from fault
