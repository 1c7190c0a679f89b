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
_BLOCK = 4096
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
    """Rows of `neighbours` entries, made on first use. 8 bytes an entry: 34 MB at 262,144 tokens, when all are made."""

    def __init__(self, embedding: Tensor, anchors: Tensor, neighbours: int) -> None:
        """Embedding V d, of any dtype; anchors A, the token of each, or V for `END`."""
        size, self._count = len(embedding), len(anchors)
        self._embedding, self._tokens = embedding, anchors[anchors < size]
        self._anchor_of = torch.full((size + 1,), -1, device=embedding.device)
        self._anchor_of[anchors] = torch.arange(self._count, device=embedding.device)
        self._near = min(neighbours, len(self._tokens))
        self._places = torch.empty((size + 1, self._near), dtype=torch.int32, device=embedding.device)
        self._values = torch.empty((size + 1, self._near), device=embedding.device)
        self._made = torch.zeros(size + 1, dtype=torch.bool, device=embedding.device)
        self._put(anchors, self._anchor_of[anchors][:, None], torch.ones(1, 1, device=embedding.device))

    def is_anchor(self, tokens: Tensor) -> Tensor:
        return self._anchor_of[tokens] >= 0

    def of(self, tokens: Tensor) -> Spread:
        """The rows of these tokens (K)."""
        fresh = tokens[~self._made[tokens]]
        if len(fresh):
            cosines, places = self._nearest(fresh)
            self._put(fresh, places, (SHARPNESS * cosines).softmax(-1))
        return Sparse(self._places[tokens].long(), self._values[tokens], self._count)

    def _put(self, tokens: Tensor, places: Tensor, values: Tensor) -> None:
        self._places[tokens], self._values[tokens] = 0, 0.0
        self._places[tokens, : places.shape[1]] = places.int()
        self._values[tokens, : values.shape[1]] = values
        self._made[tokens] = True

    def _nearest(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and anchors of each token's nearest, K n, by blocks of anchors: O(K A d) once a token."""
        rows = _unit(self._embedding[tokens])
        best = rows.new_full((len(tokens), 0), 0.0), tokens.new_zeros((len(tokens), 0))
        for start in range(0, len(self._tokens), _BLOCK):
            block = self._tokens[start : start + _BLOCK]
            cosines = torch.cat([best[0], rows @ _unit(self._embedding[block]).T], dim=-1)
            places = torch.cat([best[1], self._anchor_of[block].expand(len(tokens), -1)], dim=-1)
            values, at = cosines.topk(min(self._near, cosines.shape[-1]), dim=-1)
            best = values, places.gather(-1, at)
        return best


class ReleasedRows:
    """The dense matrix as released: V A, in fp32. Without `normalised` the second normalisation is left out."""

    def __init__(self, embedding: Tensor, anchors: Tensor, *, normalised: bool = True) -> None:
        size = len(embedding)
        need = 4 * (size + 1) * len(anchors)
        if need > _MOST_BYTES:
            raise InputError(
                f"the released method's matrix for {size:,} tokens and {len(anchors):,} anchors takes "
                f"{need / 1e9:.1f} GB; rows = 'sparse' takes {128 * size / 1e6:.0f} MB"
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


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=-1)
