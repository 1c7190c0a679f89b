"""What a gate learns from: questions, and how well each agent answered them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from eot.errors import InputError

Floats = NDArray[np.float64]
FEWEST = 10
"""Fewer labelled questions than this teach nothing and show nothing: they would be an anecdote."""
PRIOR_QUESTIONS = 5
"""How many questions what is believed of an agent beforehand is worth."""


@dataclass(frozen=True)
class Examples:
    """N questions and M agents. rewards[N, M] in 0..1, NaN where an agent was not asked.

    costs[N, M] of asking, in any one unit, NaN where nobody knows; None where nothing is known of any.
    """

    questions: tuple[str, ...]
    agents: tuple[str, ...]
    rewards: Floats
    costs: Floats | None = None

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
        costs = None if self.costs is None else self.costs[:, places]
        return Examples(self.questions, tuple(agents), self.rewards[:, places], costs)

    def at(self, places: Sequence[int] | NDArray[np.intp]) -> Examples:
        """Some of the questions, by their places."""
        costs = None if self.costs is None else self.costs[places]
        return Examples(tuple(self.questions[place] for place in places), self.agents, self.rewards[places], costs)

    def each_once(self) -> tuple[Examples, NDArray[np.intp]]:
        """Every question once, with the means of its rows, and the place of its first row."""
        known = digests(self.questions)
        first = np.sort(np.unique(known, return_index=True)[1])
        rows = [known == known[place] for place in first]
        rewards = np.array([self.rewards[same].mean(axis=0) for same in rows])
        costs = None if self.costs is None else np.array([self.costs[same].mean(axis=0) for same in rows])
        return Examples(tuple(self.questions[place] for place in first), self.agents, rewards, costs), first


@dataclass(frozen=True)
class Scored:
    """One row: a question, each asked agent's score in 0..1, and what asking it cost where that is known."""

    question: str
    scores: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict)


def examples(rows: Iterable[Scored]) -> Examples:
    """What can be learnt from these rows. A question that comes again counts again.

    Raises:
        InputError: there are too few different questions, a score is out of 0..1, or no agent was scored.
    """
    scored = list(rows)
    for number, row in enumerate(scored, start=1):
        for agent, score in row.scores.items():
            if not 0 <= score <= 1 or math.isnan(score):
                raise InputError(f"row {number}: the score of {agent} is {score}; scores lie in 0..1")
    agents = tuple(dict.fromkeys(agent for row in scored for agent in row.scores))
    different = len({_words(row.question) for row in scored})
    if different < FEWEST or not agents:
        raise InputError(
            f"{different} scored questions are too few to learn from; give {FEWEST} different ones or more"
        )
    rewards = _matrix([row.scores for row in scored], agents)
    costs = _matrix([row.costs for row in scored], agents) if any(row.costs for row in scored) else None
    return Examples(tuple(row.question for row in scored), agents, rewards, costs)


def _matrix(rows: Sequence[Mapping[str, float]], agents: Sequence[str]) -> Floats:
    return np.array([[row.get(agent, np.nan) for agent in agents] for row in rows], dtype=np.float64)


def means(rewards: Floats) -> Floats:
    """rewards[N, M], NaN where unknown -> [M]: each agent's mean, shrunk to 0.5 by `PRIOR_QUESTIONS` questions' worth.

    So nobody is thought the best for one question that he happened to know.
    """
    known = (~np.isnan(rewards)).sum(axis=0)
    return np.asarray((np.nansum(rewards, axis=0) + PRIOR_QUESTIONS * 0.5) / (known + PRIOR_QUESTIONS))


def digests(questions: Iterable[str]) -> NDArray[np.uint64]:
    """[N] questions -> uint64[N], by which they are known again; blanks make no difference."""
    found = [
        int.from_bytes(blake2b(_words(question).encode("utf-8", "surrogatepass"), digest_size=8).digest())
        for question in questions
    ]
    return np.array(found, dtype=np.uint64)


def _words(question: str) -> str:
    return " ".join(question.split())
