"""The default gate and the floor of all others: what the agents made of the nearest questions.

Tuned k-nearest neighbours are level with or ahead of learned routers (arXiv 2505.12601; LLMRouterBench, 2601.07206).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.gating.examples import PRIOR_QUESTIONS, Floats, means


def neighbours_of(rows: int) -> int:
    """How many neighbours to look at among so many rows: a tenth of them, 5 to 100."""
    return min(100, max(5, rows // 10))


@dataclass(frozen=True)
class Knn:
    """vectors[N, d] of unit length, rewards[N, M], NaN where unknown."""

    vectors: Floats
    rewards: Floats
    neighbours: int

    def expected(self, vectors: Floats) -> Floats:
        """vectors[Q, d] of unit length -> expected rewards[Q, M].

        Neighbours count alike, and beside them an agent's overall mean (`means`) counts as `PRIOR_QUESTIONS` of them;
        where none of them asked it, that mean is all there is.
        """
        count = min(self.neighbours, len(self.vectors))
        likeness = vectors @ self.vectors.T  # Q N
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]  # Q K
        rewards = self.rewards[nearest]  # Q K M
        known = (~np.isnan(rewards)).sum(axis=1)
        total = np.nansum(rewards, axis=1) + PRIOR_QUESTIONS * means(self.rewards)
        return np.asarray(total / (known + PRIOR_QUESTIONS))
