"""Members with different vocabularies vote on pieces of text: the candidates, and what each of them is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from local_models.fusion.vocabulary import Vocabulary


@dataclass(frozen=True)
class Ballot:
    """C candidate `pieces` (bytes; `END` ends the reply), log probabilities `fused` C and of each member N C.

    A member that cannot write a piece as one token may give it its first part's probability, or none (-inf).
    """

    pieces: Sequence[bytes | None]
    fused: Tensor
    members: Tensor

    def shown(self, place: int) -> str:
        return (self.pieces[place] or b"").decode(errors="replace")


class Method(Protocol):
    """One way to fuse rows of different vocabularies: a row V+1 for each member, as `Vocabulary.folded` gives them."""

    def is_alone(self, main: Tensor) -> bool:
        """Whether the main member decides this token without asking the others; `main` is its row."""

    def __call__(self, rows: Sequence[Tensor]) -> Ballot: ...


def alone(vocabulary: Vocabulary, row: Tensor) -> Ballot:
    """The main member's own row (V+1) as a ballot of one."""
    return Ballot(vocabulary.surfaces, row, row[None])


def mixed(members: Tensor, shares: Sequence[float]) -> Tensor:
    """The weighted arithmetic mean over the same C candidates: N C to C, log probabilities."""
    weights = torch.tensor(shares, dtype=members.dtype, device=members.device)[:, None]
    return (members + weights.log()).logsumexp(0)
