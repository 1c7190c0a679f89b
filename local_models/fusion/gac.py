"""`gac`: a mean over the union of all vocabularies, and only where the main member is unsure.

    P = sum_i w_i p_i M_i,  M_i in {0,1}^(V_i x V_U) puts each token at the place of its surface

Where the main member's best token has at least the probability `threshold`, it decides alone and the others are not
run; they read on when they are next asked. Yu et al., "Breaking the Ceiling of the LLM Community by Treating Token
Generation as a Classification for Ensembling", Findings of EMNLP 2024 (arXiv 2406.12585). O(sum_i V_i) a fused token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from local_models.fusion.ballot import Ballot, mixed
from local_models.fusion.vocabulary import Vocabulary


class Gac:
    """Fuses over the union vocabulary, which is made once for these members."""

    def __init__(self, vocabularies: Sequence[Vocabulary], shares: Sequence[float], threshold: float) -> None:
        self._shares, self._least = shares, math.log(threshold)
        places: dict[bytes | None, int] = {}
        self._maps = [
            torch.tensor([places.setdefault(piece, len(places)) for piece in vocabulary.surfaces])
            for vocabulary in vocabularies
        ]
        self._union = list(places)

    def is_alone(self, main: Tensor) -> bool:
        return bool(main.max() >= self._least)

    def __call__(self, rows: Sequence[Tensor]) -> Ballot:
        members = torch.stack([self._mapped(member, row) for member, row in enumerate(rows)])  # N C
        return Ballot(self._union, mixed(members, self._shares), members)

    def _mapped(self, member: int, row: Tensor) -> Tensor:
        """A member's row (V+1) over the union (C); tokens that write the same are added up."""
        self._maps[member] = self._maps[member].to(row.device)
        union = row.new_zeros(len(self._union))
        return union.index_add_(0, self._maps[member], row.exp()).log()
