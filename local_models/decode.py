"""Batched decoding over a causal LM with a KV cache: every step is one forward pass for all rows.

Axes: B rows of the batch, T tokens so far, V vocabulary. Rows are padded on the left, so that the last column is each
row's newest token. A finished row leaves the batch and its cache at once. This file knows no text and no event loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

COLDEST = 1e-4
"""Temperatures below this are as good as greedy, and a division by them would overflow."""


class Sampled(Protocol):
    """How a row draws its tokens, and from which random numbers."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def draws(self) -> random.Random: ...


@dataclass(eq=False)
class Row:
    """One request. `take` is handed (token, logprob, top) and says whether to go on; `wanted` is asked each step.

    Each row draws from its own stream of random numbers: who else is in the batch changes nothing.
    """

    prompt: list[int]
    temperature: float
    top_p: float
    draws: random.Random
    take: Callable[[int, float, tuple[tuple[int, float], ...]], bool]
    wanted: Callable[[], bool] = field(default=lambda: True)
    top_logprobs: int = 0


class Lane:
    """One model's side of a batch: what it has read lies in its cache, what it is to read next in `ids`."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad: int) -> None:
        from transformers import DynamicCache  # noqa: PLC0415  (seconds)

        self.model = model
        self.ids, self.mask = left_padded(prompts, pad, model.device)
        self.cache = DynamicCache(config=model.config)

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


@torch.inference_mode()
def decode(model: Any, rows: Sequence[Row], pad: int) -> None:
    """Generate for all rows until none goes on."""
    alive = list(rows)
    lane = Lane(model, [row.prompt for row in alive], pad)
    while alive:
        logits = lane.logits()  # B V
        tokens = choose(logits, alive)
        keep = _hand_over(logits, tokens, alive)
        lane.go_on(tokens, keep)
        alive = [alive[row] for row in keep]


def left_padded(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask, both B T, T the longest prompt; the mask is 1 where there is a token."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def choose(logits: Tensor, rows: Sequence[Sampled]) -> Tensor:
    """Pick each row's next token from its logits (B V); returns B."""
    greedy = logits.argmax(-1)
    if not any(row.temperature for row in rows):
        return greedy
    sampled = sample(
        logits.float(),
        torch.tensor([max(row.temperature, COLDEST) for row in rows], device=logits.device),
        torch.tensor([row.top_p for row in rows], device=logits.device),
        torch.tensor([row.draws.random() for row in rows], device=logits.device),
    )
    warm = torch.tensor([row.temperature > 0 for row in rows], device=logits.device)
    return torch.where(warm, sampled, greedy)


def sample(logits: Tensor, temperature: Tensor, top_p: Tensor, draw: Tensor) -> Tensor:
    """Nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751) by inverting the cumulative distribution.

    logits B V; temperature, top_p, and draw (uniform in [0, 1)) each B. The nucleus is the smallest set of likeliest
    tokens whose probability reaches top_p; it has at least one token. Returns B.
    """
    probabilities, order = (logits / temperature[:, None]).softmax(-1).sort(descending=True)  # B V
    before = probabilities.cumsum(-1) - probabilities  # B V: what is likelier than this token
    probabilities = probabilities.masked_fill(before >= top_p[:, None], 0.0)
    probabilities[:, 0].clamp_(min=torch.finfo(probabilities.dtype).tiny)
    cumulative = probabilities.cumsum(-1)
    target = draw[:, None] * cumulative[:, -1:]  # B 1
    place = torch.searchsorted(cumulative, target, right=True)
    last = (probabilities > 0).sum(-1, keepdim=True) - 1  # rounding may push the target past the nucleus
    return order.gather(-1, place.minimum(last)).squeeze(-1)


def _hand_over(logits: Tensor, tokens: Tensor, rows: Sequence[Row]) -> list[int]:
    """Give each row its token; return the places of the rows that go on."""
    going = []
    for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
        if not row.wanted():
            continue
        logprob, top = _logprobs(logits[place], token, row.top_logprobs)
        if row.take(token, logprob, top):
            going.append(place)
    return going


def _logprobs(logits: Tensor, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log probability of `token` and of the `count` likeliest, from one row's logits (V); nothing when not asked."""
    if not count:
        return 0.0, ()
    every = logits.float().log_softmax(-1)
    values, indices = every.topk(min(count, len(every)))
    return float(every[token]), tuple(zip(indices.tolist(), values.tolist(), strict=True))
