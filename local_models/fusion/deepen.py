"""`deepen`: the members' distributions are averaged in the space of their common tokens, and brought back.

    r_i = p_i R_i (R_i: see `relative.py`)      rbar = sum_i w_i r_i      p = argmin over p of KL(rbar || p R_main)

Huang et al., "Ensemble Learning for Heterogeneous Large Language Models with Deep Parallel Collaboration" (DeePEn),
NeurIPS 2024 (arXiv 2404.12715). Weights all alike are its Avg, dev accuracies its Adapt.

The last step is convex. `em` solves it by expectation maximisation (Richardson-Lucy), from the main member's own p:

    p_j <- p_j sum_a R[j,a] rbar_a / (p R)_a,  renormalised

which has no learning rate and never moves away. `adamw` is what was released: five AdamW steps on the main member's
logits with learning rate eta (cosine to a quarter, T_max 10), the loss divided by A. There it can re-rank only tokens
whose logits differ by less than about 12 eta; its default eta of 0 turns fusion off silently, 0.15 is its example's.

The support is the main member's `keep` likeliest tokens and the tokens that write rbar's 64 heaviest anchors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eot.fusion import FusionSettings
from local_models.fusion.ballot import Ballot
from local_models.fusion.relative import ReleasedRows, SparseRows, Spread, anchors_of
from local_models.fusion.vocabulary import Vocabulary

_HEAVIEST = 64
_LEAST = 1e-8
_FAINT = 0.01
"""Anchors are carried over down to this part of `floor`."""
_log = logging.getLogger(__name__)


class Deepen:
    """Fuses in the relative space of these members, whose input `embeddings` are V_i d_i."""

    def __init__(
        self,
        vocabularies: Sequence[Vocabulary],
        shares: Sequence[float],
        settings: FusionSettings,
        embeddings: Sequence[Tensor],
    ) -> None:
        self._main, self._shares, self._settings = vocabularies[0], shares, settings
        home = embeddings[0].device
        tables = [
            table[: len(vocabulary.pieces)].to(home) for vocabulary, table in zip(vocabularies, embeddings, strict=True)
        ]
        anchors = [tokens.to(home) for tokens in anchors_of(vocabularies, settings.anchors)]
        self._anchors = anchors[0]
        self._rows = [self._made(table, tokens) for table, tokens in zip(tables, anchors, strict=True)]
        self._beside = [_translated(self._main, other).to(home) for other in vocabularies]

    def is_alone(self, main: Tensor) -> bool:  # noqa: ARG002
        return False

    def __call__(self, rows: Sequence[Tensor]) -> Ballot:
        likely = [self._likely(member, row) for member, row in enumerate(rows)]
        relative = [self._relative(member, row, likely[member]) for member, row in enumerate(rows)]
        target = sum(share * one for share, one in zip(self._shares, relative, strict=True))
        assert isinstance(target, Tensor)
        support = self._support(rows[0], likely[0], target)
        spread = self._rows[0].of(support)
        if self._settings.inverse == "em":
            start = rows[0][support].exp().clamp(min=_LEAST)
            fused = em(start / start.sum(), spread, target, self._settings.iterations).log()
        else:
            fused = adamw(rows[0][support], spread, target, self._settings.iterations, self._settings.eta)
        members = torch.stack([self._seen(member, row, support) for member, row in enumerate(rows)])
        return Ballot([self._main.surfaces[token] for token in support.tolist()], fused, members)

    def _made(self, table: Tensor, anchors: Tensor) -> SparseRows | ReleasedRows:
        if self._settings.rows == "released":
            return ReleasedRows(table, anchors)
        return SparseRows(table, anchors, self._settings.neighbours)

    def _relative(self, member: int, row: Tensor, tokens: Tensor) -> Tensor:
        """A member's row (V+1) in the relative space (A), without the tokens that are too unlikely to matter."""
        if self._settings.rows == "released":
            return self._rows[member].of(torch.arange(len(row), device=row.device)).forward(row.exp())
        weights = row[tokens].exp()
        _log.debug("member %d: %.4f of its probability is carried over", member, weights.sum())
        return self._rows[member].of(tokens).forward(weights / weights.sum())

    def _likely(self, member: int, row: Tensor) -> Tensor:
        least = max(self._settings.floor, _LEAST)
        some = (row >= math.log(least * _FAINT)).nonzero().flatten()  # to sort the whole row would take longer
        values, at = row[some].topk(min(self._settings.keep, len(some)))
        tokens = some[at]
        wanted = (values >= math.log(least)) | self._rows[member].is_anchor(tokens)
        wanted[0] = True
        return tokens[wanted]

    def _support(self, main: Tensor, likely: Tensor, target: Tensor) -> Tensor:
        """Tokens of the main member that the fused distribution may have: K."""
        if self._settings.rows == "released":
            return (main > -torch.inf).nonzero().flatten()
        heaviest = self._anchors[target.topk(min(_HEAVIEST, len(target))).indices]
        support: Tensor = torch.unique(torch.cat([likely, heaviest]))
        return support[main[support] > -torch.inf]

    def _seen(self, member: int, row: Tensor, support: Tensor) -> Tensor:
        """What a member's row gives the main member's tokens (K); -inf where it has no such token."""
        there = self._beside[member][support]
        return torch.where(there >= 0, row[there.clamp(min=0)], -torch.inf)


def em(start: Tensor, spread: Spread, target: Tensor, iterations: int) -> Tensor:
    """Probabilities `start` (K) towards argmin KL(target || p R), target A: K, summing to 1."""
    p = start
    for _ in range(iterations):
        reached = spread.forward(p)  # A
        p = p * spread.backward(torch.where(reached > 0, target / reached, 0.0))
        p = p / p.sum()
    return p


def adamw(start: Tensor, spread: Spread, target: Tensor, iterations: int, eta: float) -> Tensor:
    """The same from logits `start` (K), as released: log probabilities K.

    The loss is mean over a of rbar_a (log rbar_a - log (p R)_a), and its gradient is written out.
    """
    with torch.inference_mode(mode=False):  # an optimiser's tensors are written in place
        logits = start.clone().requires_grad_()
        descent = torch.optim.AdamW([logits], lr=eta)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(descent, T_max=10, eta_min=eta / 4)
        for _ in range(iterations):
            logits.grad = gradient(logits.detach().softmax(-1), spread, target)
            descent.step()
            cosine.step()
    return logits.detach().log_softmax(-1)


def gradient(p: Tensor, spread: Spread, target: Tensor) -> Tensor:
    """Of the loss by the logits of p (K): p_j (g_j - sum_k p_k g_k), with g_j = -mean_a R[j,a] target_a / (p R)_a."""
    reached = spread.forward(p).clamp(min=torch.finfo(p.dtype).tiny)
    by_p = -spread.backward(target / reached) / len(target)
    return p * (by_p - (p * by_p).sum())


def _translated(main: Vocabulary, other: Vocabulary) -> Tensor:
    """For each place of the main member's rows (V+1) the place in the other's that writes the same, or -1."""
    places = [other.ids.get(piece, -1) if piece else -1 for piece in main.pieces]
    return torch.tensor([*places, len(other.pieces)])
