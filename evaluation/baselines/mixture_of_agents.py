"""Mixture-of-Agents (Wang et al. 2024, arXiv 2406.04692): layers of the same agents, each reading the layer before."""

from __future__ import annotations

from collections.abc import Sequence

from eot.types import Agent, Prompt, Question, Reply
from evaluation.alone import aggregation_prompt, ask_all, sample_prompt, told
from evaluation.systems import Done, Entrant, Outcome, System, Trial

LAYERS = 3


def mixture_of_agents(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Calls: 2n + 1. All members propose, all aggregate, and the strongest alone is the third layer."""

    async def solve(question: Question, _: Done) -> Outcome:
        layers = list[list[Reply]]()
        for layer in range(LAYERS):
            agents = list(entrant.members.values()) if layer < LAYERS - 1 else [entrant.strongest]
            before = [reply.text for reply in layers[-1]] if layers else []
            layers.append(await ask_all([(agent, _prompt(question, agent, trial, before, layer)) for agent in agents]))
        return told(question, layers)

    return [System(f"moa:{entrant.name}", solve, entrant.fingerprint)]


def _prompt(question: Question, agent: Agent, trial: Trial, before: Sequence[str], layer: int) -> Prompt:
    if not before:
        return sample_prompt(question, agent.name, trial, 0)
    return aggregation_prompt(question, agent.name, trial, before, layer)
