"""`unite`: the union of every member's likeliest tokens, and a mean over that union.

    U = union of the surfaces of each member's top k;  P_i = softmax over U of z_i(u);  P = sum_i w_i P_i

z_i(u) is the logit of u where member i has it as one token, else that of its first sub-token of u. Yao et al.,
"Determine-Then-Ensemble", ICLR 2025 (arXiv 2410.03777). Two pieces that begin with the same sub-token both get its
logit; the released code gives the second one a logit of 0, which beats every negative one. O(N (V + k)) a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.fusion.ballot import Ballot, mixed
from local_models.fusion.vocabulary import END, Vocabulary


class Unite:
    """Fuses over the union of the members' `top_k` likeliest pieces."""

    def __init__(self, vocabularies: Sequence[Vocabulary], shares: Sequence[float], top_k: int) -> None:
        self._vocabularies, self._shares, self._top_k = vocabularies, shares, top_k
        self._place = lru_cache(65_536)(self._look_up)

    def is_alone(self, main: Tensor) -> bool:  # noqa: ARG002
        return False

    def __call__(self, rows: Sequence[Tensor]) -> Ballot:
        union = dict.fromkeys(
            piece
            for vocabulary, row in zip(self._vocabularies, rows, strict=True)
            for token in row.topk(min(self._top_k, len(row))).indices.tolist()
            if (piece := vocabulary.surfaces[token]) is not None
        )
        members = [self._seen(member, row, list(union)) for member, row in enumerate(rows)]
        logprobs = torch.stack(members).log_softmax(-1)  # N C
        return Ballot(list(union), mixed(logprobs, self._shares), logprobs)

    def _seen(self, member: int, row: Tensor, union: Sequence[bytes]) -> Tensor:
        """What a member's row (V+1) gives each piece of the union: C."""
        places = [self._place(member, piece) for piece in union]
        seen = row[torch.tensor([max(place, 0) for place in places], device=row.device)]
        return torch.where(torch.tensor([place < 0 for place in places], device=row.device), -torch.inf, seen)

    def _look_up(self, member: int, piece: bytes) -> int:
        """Where a piece, or its first part, stands in a member's row; -1 where the member has no way to write it."""
        vocabulary = self._vocabularies[member]
        if piece == END:
            return len(vocabulary.pieces)
        try:
            return vocabulary.ids.get(piece, -1) if piece in vocabulary.ids else vocabulary.encode(piece)[0]
        except InputError:
            return -1
