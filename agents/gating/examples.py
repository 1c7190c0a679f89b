"""What a gate learns from: questions, and how well each agent answered them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eot.errors import InputError

Floats = NDArray[np.float64]
FEWEST = 10
"""Fewer labelled questions than this teach nothing: the gate would be an anecdote."""


@dataclass(frozen=True)
class Examples:
    """N questions and M agents. rewards[N, M] in 0..1, NaN where an agent was not asked."""

    questions: tuple[str, ...]
    agents: tuple[str, ...]
    rewards: Floats

    def __len__(self) -> int:
        return len(self.questions)

    def of(self, agents: Sequence[str]) -> Examples:
        """The same questions with these agents alone, in this order.

        Raises:
            InputError: nothing is known of one of them.
        """
        if unknown := [name for name in agents if name not in self.agents]:
            raise InputError(f"nobody scored {', '.join(unknown)}; scored are {', '.join(self.agents)}")
        places = [self.agents.index(name) for name in agents]
        return Examples(self.questions, tuple(agents), self.rewards[:, places])


def examples(rows: Iterable[tuple[str, Mapping[str, float]]]) -> Examples:
    """Rows of (question, score in 0..1 by agent). A question that comes again counts again.

    Raises:
        InputError: there are too few rows, a score is out of 0..1, or no agent was scored.
    """
    questions: list[str] = []
    scored: list[Mapping[str, float]] = []
    for number, (question, scores) in enumerate(rows, start=1):
        for agent, score in scores.items():
            if not 0 <= score <= 1 or math.isnan(score):
                raise InputError(f"row {number}: the score of {agent} is {score}; scores lie in 0..1")
        questions.append(question)
        scored.append(scores)
    agents = tuple(dict.fromkeys(agent for scores in scored for agent in scores))
    if len(questions) < FEWEST or not agents:
        raise InputError(f"{len(questions)} scored questions are too few to learn from; give {FEWEST} or more")
    rewards = np.array([[scores.get(agent, np.nan) for agent in agents] for scores in scored], dtype=np.float64)
    return Examples(tuple(questions), agents, rewards)
