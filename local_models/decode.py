"""Continuous batching over a causal LM with a KV cache: every step is one forward pass for all rows.

Axes: B rows of the batch, V vocabulary. A finished row leaves the batch and its cache at once, and others that wait
may join in its place (Yu et al., OSDI 2022, "Orca"). This file knows no text and no event loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from local_models.lane import Lane, joinable
from local_models.reading import read_apart, read_together

COLDEST = 1e-4
"""Temperatures below this are as good as greedy, and a division by them would overflow."""
LIKELIEST = 256
"""Where the nuclei of all rows are among so many tokens, the rest of the vocabulary need not be sorted."""


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
    """One request.

    `take` is handed (token, logprob, top) and says whether to go on; `wanted` is asked each step; `fail` is told why
    the row could not join a batch, which goes on without it.
    Each row draws from its own stream of random numbers: who else is in the batch changes nothing.
    """

    prompt: list[int]
    temperature: float
    top_p: float
    draws: random.Random
    take: Callable[[int, float, tuple[tuple[int, float], ...]], bool]
    wanted: Callable[[], bool] = field(default=lambda: True)
    fail: Callable[[Exception], None] = field(default=lambda _: None)
    top_logprobs: int = 0


@torch.inference_mode()
def decode(model: Any, rows: Sequence[Row], pad: int, more: Callable[[int], Sequence[Row]] | None = None) -> None:
    """Generate for all rows until none goes on.

    Args:
        model: a causal LM.
        rows: those to begin with.
        pad: the id that fills a row up on the left.
        more: is told how many rows there are and gives those that shall join them, where the model's cache allows it.
    """
    apart = joinable(model)
    lane, heads, alive = _begun(model, rows, pad, apart=apart)
    while alive:
        tokens = choose(heads, alive)
        keep = _hand_over(heads, tokens, alive)
        lane.go_on(tokens, keep)
        alive = [alive[row] for row in keep]
        heads = lane.logits() if alive else heads[:0]
        coming = more(len(alive)) if more and apart else ()
        if not coming:
            continue
        try:
            fresh, read, joining = _begun(model, coming, pad, apart=apart)
        except Exception as fault:
            if not alive:
                raise
            for row in coming:  # no memory for them, say: those who are at work need not suffer for it
                row.fail(fault)
            continue
        if alive:
            lane.join(fresh)
        lane, heads, alive = lane if alive else fresh, torch.cat([heads, read]), [*alive, *joining]


def _begun(model: Any, rows: Sequence[Row], pad: int, *, apart: bool) -> tuple[Lane, Tensor, list[Row]]:
    """A lane that has read these rows' prompts, their logits, B V, and the rows in its order."""
    prompts = [tuple(row.prompt) for row in rows]
    (lane, logits, order), *others = read_apart(model, prompts, pad) if apart else [read_together(model, prompts, pad)]
    for other, more, places in others:
        lane.join(other)
        logits, order = torch.cat([logits, more]), order + places
    return lane, logits, [rows[place] for place in order]


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
    probabilities, order = _descending((logits / temperature[:, None]).softmax(-1), top_p)
    before = probabilities.cumsum(-1) - probabilities  # B V: what is likelier than this token
    probabilities = probabilities.masked_fill(before >= top_p[:, None], 0.0)
    probabilities[:, 0].clamp_(min=torch.finfo(probabilities.dtype).tiny)
    cumulative = probabilities.cumsum(-1)
    target = draw[:, None] * cumulative[:, -1:]  # B 1
    place = torch.searchsorted(cumulative, target, right=True)
    last = (probabilities > 0).sum(-1, keepdim=True) - 1  # rounding may push the target past the nucleus
    return order.gather(-1, place.minimum(last)).squeeze(-1)


def _descending(probabilities: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """B V sorted, and the tokens' ids; only the likeliest where they hold every row's nucleus."""
    if probabilities.shape[-1] > LIKELIEST:
        likeliest = probabilities.topk(LIKELIEST)
        if bool((likeliest.values.sum(-1) > top_p).all()):
            return likeliest.values, likeliest.indices
    whole = probabilities.sort(descending=True)
    return whole.values, whole.indices


def _hand_over(logits: Tensor, tokens: Tensor, rows: Sequence[Row]) -> list[int]:
    """Give each row its token; return the places of the rows that go on, as few as can be of them moved."""
    going = []
    for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
        if not row.wanted():
            continue
        logprob, top = _logprobs(logits[place], token, row.top_logprobs)
        if row.take(token, logprob, top):
            going.append(place)
    stay, last = set(going), going[:]
    return [place if place in stay else last.pop() for place in range(len(going))]


def _logprobs(logits: Tensor, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log probability of `token` and of the `count` likeliest, from one row's logits (V); nothing when not asked."""
    if not count:
        return 0.0, ()
    every = logits.float().log_softmax(-1)
    values, indices = every.topk(min(count, len(every)))
    return float(every[token]), tuple(zip(indices.tolist(), values.tolist(), strict=True))
