"""What is known of each agent of an exchange once somebody has said what its verdict was worth.

A gate picks whom to ask before anyone has read anyone, so an agent is credited with its first answer, the one that it
gave alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from eot.types import Exchange, Verdict
from evaluation.grading import is_right
from scoring import same


def by_gold(exchange: Exchange, gold: str) -> Mapping[str, float]:
    """1 for each agent whose first answer is the right one, 0 for the others that spoke. `gold` is canonical."""
    kind, choices = exchange.kind, exchange.question.choices
    return {
        agent: float(is_right(thought.answer, gold, kind, choices, thought.text))
        for agent, thought in exchange.first.items()
    }


def by_reward(exchange: Exchange, verdict: Verdict, reward: float) -> Mapping[str, float]:
    """The reward for each agent that stood behind the verdict from the first; of the others nothing is known.

    Where nobody did, it is the agent's whose text the verdict is.
    """
    behind = [
        agent
        for agent, thought in exchange.first.items()
        if thought.answer is not None
        and verdict.answer is not None
        and same(thought.answer, verdict.answer, exchange.kind)
    ]
    return dict.fromkeys(behind or [verdict.agent], reward)


def costs(exchange: Exchange) -> Mapping[str, float]:
    """US dollars of each agent's first answer, where they are known."""
    return {
        agent: thought.usage.cost_usd for agent, thought in exchange.first.items() if thought.usage.cost_usd is not None
    }
