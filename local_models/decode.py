"""Continuous batching over a causal LM with a KV cache: every step is one forward pass for all rows.

Axes: B rows of the batch, T tokens so far, V vocabulary. Rows are padded on the left, so that the last column is each
row's newest token. A finished row leaves the batch and its cache at once, and others that wait may join in its place
(Yu et al., OSDI 2022, "Orca"). This file knows no text and no event loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad as _pad

COLDEST = 1e-4
"""Temperatures below this are as good as greedy, and a division by them would overflow."""


SHORTEST_STEM = 32
"""Tokens that prompts must share to have them read once: below, another pass of the model costs more."""


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

    @property
    def joinable(self) -> bool:
        """Whether another lane's rows can be put beside these: not where a layer keeps less than all it has read."""
        from transformers.cache_utils import DynamicLayer  # noqa: PLC0415  (seconds)

        return all(type(layer) is DynamicLayer for layer in self.cache.layers)

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
            mine.keys = torch.cat([_widened(mine.keys, longest), _widened(others.keys, longest)])
            mine.values = torch.cat([_widened(mine.values, longest), _widened(others.values, longest)])
        masks = [_pad(mask, (longest - mask.shape[1], 0)) for mask in (self.mask, other.mask)]
        self.mask = torch.cat(masks)

    def _trim(self) -> None:
        """Columns that are padding in every row, left by a longer row that has gone, need not be dragged along."""
        empty = int(self.mask.any(0).int().argmax())
        if empty:
            self.mask = self.mask[:, empty:]
            for layer in self.cache.layers:
                layer.keys, layer.values = layer.keys[:, :, empty:], layer.values[:, :, empty:]

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
def decode(model: Any, rows: Sequence[Row], pad: int, more: Callable[[int], Sequence[Row]] | None = None) -> None:
    """Generate for all rows until none goes on.

    Args:
        model: a causal LM.
        rows: those to begin with.
        pad: the id that fills a row up on the left.
        more: is told how many rows there are and gives those that shall join them, where the model's cache allows it.
    """
    lane, alive, coming = None, list[Row](), list(rows)
    while coming or alive:
        logits = [lane.logits()] if lane and alive else []  # each B V
        if not alive:
            lane = None
        for fresh, read, group in (parts for rows in _alike(coming, model) for parts in _read(model, rows, pad)):
            if lane:
                lane.join(fresh)
            lane = lane or fresh
            logits.append(read)
            alive += group
        assert lane
        heads = torch.cat(logits)
        tokens = choose(heads, alive)
        keep = _hand_over(heads, tokens, alive)
        lane.go_on(tokens, keep)
        alive = [alive[row] for row in keep]
        coming = list(more(len(alive))) if more and lane.joinable else []


def _alike(rows: Sequence[Row], model: Any) -> list[list[Row]]:
    """Rows whose prompts are about equally long, so that little padding is read: no more than a third of a group."""
    if not Lane(model, [[0]], 0).joinable:
        return [list(rows)] if rows else []
    groups = list[list[Row]]()
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        if not groups or 2 * len(row.prompt) > 3 * len(groups[-1][0].prompt):
            groups.append([])
        groups[-1].append(row)
    return groups


def _read(model: Any, rows: Sequence[Row], pad: int) -> Iterator[tuple[Lane, Tensor, list[Row]]]:
    """Lanes that have read these rows' prompts, their logits, B V, and their rows.

    What several prompts begin with is read once: agents on one model share the question, samples the whole prompt.
    """
    asked: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        asked.setdefault(tuple(row.prompt), []).append(row)
    alone, together = _by_stem(list(asked), model)
    if together:
        lane = Lane(model, list(together), pad)
        lane.logits()
        lane.spread([at for at, prompts in enumerate(together.values()) for _ in prompts])
        lane.read_on([prompt[len(stem) :] for stem, prompts in together.items() for prompt in prompts], pad)
        yield _spread(lane, [asked[prompt] for prompts in together.values() for prompt in prompts])
    if alone:
        yield _spread(Lane(model, alone, pad), [asked[prompt] for prompt in alone])


def _spread(lane: Lane, rows: Sequence[Sequence[Row]]) -> tuple[Lane, Tensor, list[Row]]:
    """Read on, then give each prompt's place to all the rows that have it."""
    logits, places = lane.logits(), [at for at, sharing in enumerate(rows) for _ in sharing]
    if len(places) > len(rows):
        lane.spread(places)
        logits = logits[torch.tensor(places, device=logits.device)]
    return lane, logits, [row for sharing in rows for row in sharing]


Prompt = tuple[int, ...]


def _by_stem(prompts: list[Prompt], model: Any) -> tuple[list[Prompt], dict[Prompt, list[Prompt]]]:
    """Prompts that begin as no other does, and the others by their longest common beginning, which is no whole one."""
    if len(prompts) == 1 or not Lane(model, [[0]], 0).joinable:
        return prompts, {}
    alike: dict[Prompt, list[Prompt]] = {}
    for prompt in prompts:
        alike.setdefault(prompt[:SHORTEST_STEM], []).append(prompt)
    alone, together = list[Prompt](), dict[Prompt, list[Prompt]]()
    for beginning, sharing in alike.items():
        stem = _common(min(sharing), max(sharing))
        if len(sharing) == 1 or len(beginning) < SHORTEST_STEM or len(stem) < SHORTEST_STEM:
            alone += sharing
        else:
            together[stem] = sharing
    return alone, together


def _common(one: Prompt, other: Prompt) -> Prompt:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return one[: min(sum(1 for _ in same), len(one) - 1, len(other) - 1)]


def _widened(kept: Tensor, length: int) -> Tensor:
    """Keys or values, B heads T D, with zeros before them up to this length; the mask hides them."""
    return _pad(kept, (0, 0, length - kept.shape[2], 0))


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
