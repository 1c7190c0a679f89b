"""Tokens described by their similarity to anchors, the tokens that all members have: one space for every vocabulary.

Axes: V tokens of a member and `END` behind them, A anchors, d its embedding's width, K tokens at hand, n neighbours.

    c(v, a) = cos(E[v], E[anchor a])          R[v] = softmax over a of 100 c(v, a)

An anchor is nearest to itself, and 100 makes its row one-hot: R is stored so. A row of another token keeps its 16
nearest anchors and is computed when the token first matters. As released R is dense and c(v) is first divided by its
length: where embeddings are anisotropic, all pointing one way, that leaves it almost uniform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.fusion.vocabulary import END, Vocabulary

SHARPNESS = 100.0
_BLOCK = 2048
_AT_ONCE = 64
_AHEAD = 4096
"""Rows that are made at once: those of the first tokens, which a vocabulary has by how frequent they are."""
_SOUGHT = 4
"""So many times the neighbours are looked at closely."""
_MOST_BYTES = 4 << 30


class Spread(Protocol):
    """The rows of some tokens (K A), as a linear map."""

    def forward(self, weights: Tensor) -> Tensor:
        """K to A: weights R."""

    def backward(self, anchors: Tensor) -> Tensor:
        """A to K: R anchors."""


class Sparse:
    def __init__(self, places: Tensor, values: Tensor, anchors: int) -> None:
        """Places K n and values K n of the rows' entries."""
        self._places, self._values, self._anchors = places, values, anchors

    def forward(self, weights: Tensor) -> Tensor:
        spread = (weights[:, None] * self._values).flatten()
        return weights.new_zeros(self._anchors).index_add(0, self._places.flatten(), spread)

    def backward(self, anchors: Tensor) -> Tensor:
        return (self._values * anchors[self._places]).sum(-1)


class Dense:
    def __init__(self, rows: Tensor) -> None:
        """Rows K A."""
        self._rows = rows

    def forward(self, weights: Tensor) -> Tensor:
        return weights @ self._rows

    def backward(self, anchors: Tensor) -> Tensor:
        return self._rows @ anchors


class SparseRows:
    """Rows of `neighbours` entries: an anchor's is itself, another token's is made on first use, and kept.

    The nearest anchors are sought by 8-bit products with a copy of their directions (A d bytes: 29 MB for 46,145 of
    width 640; 3 ms a row, 0.2 ms in a batch of many), and the best of those are compared again in fp32.
    """

    def __init__(self, embedding: Tensor, anchors: Tensor, neighbours: int, ahead: int = _AHEAD) -> None:
        """Embedding V d, of any dtype; anchors A, the token of each, or V for `END`. `ahead`: rows made at once."""
        size, device = len(embedding), embedding.device
        self._embedding, self._count, self._anchors = embedding, len(anchors), anchors
        self._anchor_of = torch.full((size + 1,), -1, device=device)
        self._anchor_of[anchors] = torch.arange(self._count, device=device)
        self._words = (anchors < size).nonzero().flatten()  # all anchors but the end, which has no embedding
        self._near = min(neighbours, len(self._words))
        self._slot = torch.full((size + 1,), -1, dtype=torch.int32, device=device)
        self._made = 0
        self._places = torch.empty((0, self._near), dtype=torch.int32, device=device)
        self._values = torch.empty((0, self._near), device=device)
        self._small, self._scale = self._quantised()
        self._make((self._anchor_of[:size] < 0).nonzero().flatten()[:ahead])

    def is_anchor(self, tokens: Tensor) -> Tensor:
        return self._anchor_of[tokens] >= 0

    def of(self, tokens: Tensor) -> Spread:
        """The rows of these tokens (K, each but once)."""
        anchor = self._anchor_of[tokens]
        others = anchor < 0
        self._make(tokens[others & (self._slot[tokens] < 0)])
        places = anchor.clamp(min=0)[:, None].repeat(1, self._near)
        values = torch.zeros_like(places, dtype=torch.float32)
        values[:, 0] = 1.0
        slots = self._slot[tokens[others]].long()
        places[others], values[others] = self._places[slots].long(), self._values[slots]
        return Sparse(places, values, self._count)

    def _make(self, tokens: Tensor) -> None:
        if not len(tokens):
            return
        nearest = [self._nearest(some) for some in tokens.split(_AT_ONCE)]  # type: ignore[no-untyped-call]
        cosines, places = (torch.cat(parts) for parts in zip(*nearest, strict=True))
        start, self._made = self._made, self._made + len(tokens)
        while len(self._places) < self._made:  # twice as many each time, so that a row is seldom copied
            self._places = torch.cat(
                [self._places, torch.empty_like(self._places), torch.empty_like(places, dtype=torch.int32)]
            )
            self._values = torch.cat([self._values, torch.empty_like(self._values), torch.empty_like(cosines)])
        self._slot[tokens] = torch.arange(start, self._made, dtype=torch.int32, device=tokens.device)
        self._places[start : self._made] = places.int()
        self._values[start : self._made] = (SHARPNESS * cosines).softmax(-1)

    def _nearest(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and anchors of each token's nearest, K n: O(K A d), once a token."""
        rows = _unit(self._embedding[tokens])
        rough = self._products(rows).mul_(self._scale)
        likely = rough.topk(min(_SOUGHT * self._near, len(self._words)), dim=-1).indices
        candidates = self._words[likely]  # K c
        exact = (_unit(self._embedding[self._anchors[candidates]]) @ rows[..., None]).squeeze(-1)
        cosines, at = exact.topk(self._near, dim=-1)
        return cosines, candidates.gather(-1, at)

    def _products(self, rows: Tensor) -> Tensor:
        """Rows (K d) times the small anchors, K A, but for a factor of each row's own."""
        if rows.device.type == "cpu":
            small, _ = _small(rows)
            return torch._int_mm(small, self._small.T).float()
        blocks = [self._small[start : start + _BLOCK] for start in range(0, len(self._small), _BLOCK)]
        return torch.cat([rows @ block.float().T for block in blocks], dim=-1)

    def _quantised(self) -> tuple[Tensor, Tensor]:
        """The anchors' directions as integers of 8 bits, and what one step of each is worth."""
        tokens, device = self._anchors[self._words], self._embedding.device
        small = torch.empty((len(tokens), self._embedding.shape[1]), dtype=torch.int8, device=device)
        scale = torch.empty(len(tokens), device=device)
        for start in range(0, len(tokens), _BLOCK):
            block = slice(start, start + _BLOCK)
            small[block], scale[block] = _small(_unit(self._embedding[tokens[block]]))
        return small, scale


class ReleasedRows:
    """The dense matrix as released: V A, in fp32. Without `normalised` the second normalisation is left out."""

    def __init__(self, embedding: Tensor, anchors: Tensor, *, normalised: bool = True) -> None:
        size = len(embedding)
        need = 4 * (size + 1) * len(anchors)
        if need > _MOST_BYTES:
            raise InputError(
                f"the released method's matrix for {size:,} tokens and {len(anchors):,} anchors takes "
                f"{need / 1e9:.1f} GB; rows = 'sparse' takes {len(anchors) * embedding.shape[1] / 1e6:.0f} MB"
            )
        tokens = anchors[anchors < size]
        self._rows = torch.zeros(size + 1, len(anchors), device=embedding.device)
        unit, to = _unit(embedding), (anchors < size).nonzero().flatten()
        for start in range(0, size, _BLOCK):
            end = min(start + _BLOCK, size)
            cosines = unit[start:end] @ unit[tokens].T
            scaled = torch.nn.functional.normalize(cosines, dim=-1) if normalised else cosines
            self._rows[start:end, to] = (SHARPNESS * scaled).softmax(-1)
        self._rows[size, (anchors == size).nonzero().flatten()] = 1.0
        self._anchors = anchors

    def is_anchor(self, tokens: Tensor) -> Tensor:
        return torch.isin(tokens, self._anchors)

    def of(self, tokens: Tensor) -> Spread:
        return Dense(self._rows if len(tokens) == len(self._rows) else self._rows[tokens])


def anchors_of(vocabularies: Sequence[Vocabulary], by: str) -> list[Tensor]:
    """For each member the token of each anchor (A); `END` is one, at place V.

    `bytes`: tokens that write the same. `keys`: as released, keys of the vocabularies that are equal once "Ġ" is
    written "▁"; byte-level keys of anything but ASCII never equal a SentencePiece vocabulary's.
    """
    ids: list[Mapping[Any, int]] = [_keyed(one) if by == "keys" else one.ids for one in vocabularies]
    common = [surface for surface in ids[0] if all(surface in other for other in ids[1:])]
    if not common:
        names = " and ".join(one.name for one in vocabularies)
        raise InputError(f"{names} have no token in common, so nothing relates them; 'unite' and 'gac' need none")
    return [
        torch.tensor([*(one[surface] for surface in common), len(vocabulary.pieces)])
        for one, vocabulary in zip(ids, vocabularies, strict=True)
    ]


def _keyed(vocabulary: Vocabulary) -> dict[str, int]:
    return {
        key.replace("Ġ", "▁"): token
        for token, key in enumerate(vocabulary.keys)
        if key is not None and vocabulary.pieces[token] not in (None, END)
    }


def _small(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (K d) as integers of 8 bits, and what one step of each is worth (K)."""
    step = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (rows / step).round().to(torch.int8), step.squeeze(-1)


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=-1)
