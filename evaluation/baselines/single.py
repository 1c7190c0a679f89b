"""One agent, one chain of thought (Wei et al. 2022, arXiv 2201.11903): the answer it also gives in round 0."""

from __future__ import annotations

from collections.abc import Sequence

from eot.types import Agent, Question
from evaluation.alone import samples, told
from evaluation.systems import Done, Entrant, Outcome, System, Trial


def chain_of_thought(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """The strongest member alone. One call."""
    return [_alone("cot", entrant, entrant.strongest, trial)]


def singles(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Every member alone. Which of them is best is known afterwards only: that line is an oracle's."""
    return [_alone("single", entrant, agent, trial) for agent in entrant.members.values()]


def _alone(prefix: str, entrant: Entrant, agent: Agent, trial: Trial) -> System:
    async def solve(question: Question, _: Done) -> Outcome:
        return told(question, [await samples(agent, question, trial, 1)])

    return System(f"{prefix}:{agent.name}", solve, entrant.prints.get(agent.name, ""))
