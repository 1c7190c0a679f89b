"""The default gate and the floor of all others: what the agents made of the nearest questions.

Tuned k-nearest neighbours are level with or ahead of learned routers (arXiv 2505.12601; LLMRouterBench, 2601.07206).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.gating.examples import Floats

NEIGHBOURS = 100
PRIOR_QUESTIONS = 5
"""How many questions the overall mean of an agent is worth beside its neighbours."""


@dataclass(frozen=True)
class Knn:
    """vectors[N, d] of unit length, rewards[N, M]; `prior`[M] is each agent's mean reward."""

    vectors: Floats
    rewards: Floats
    neighbours: int = NEIGHBOURS

    @property
    def prior(self) -> Floats:
        known = (~np.isnan(self.rewards)).sum(axis=0)
        total = np.nansum(self.rewards, axis=0)
        return np.asarray((total + PRIOR_QUESTIONS * 0.5) / (known + PRIOR_QUESTIONS))

    def expected(self, vectors: Floats) -> Floats:
        """vectors[Q, d] of unit length -> expected rewards[Q, M].

        Neighbours count alike; an agent that none of them asked falls back to its prior.
        """
        count = min(self.neighbours, len(self.vectors))
        likeness = vectors @ self.vectors.T  # Q N
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]  # Q K
        rewards = self.rewards[nearest]  # Q K M
        known = (~np.isnan(rewards)).sum(axis=1)
        total = np.nansum(rewards, axis=1) + PRIOR_QUESTIONS * self.prior
        return np.asarray(total / (known + PRIOR_QUESTIONS))
