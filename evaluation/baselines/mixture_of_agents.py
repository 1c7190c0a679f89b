"""Mixture-of-Agents (Wang et al. 2024, arXiv 2406.04692): layers of the same agents, each reading the layer before."""

from __future__ import annotations

from collections.abc import Sequence

from eot.types import Agent, Prompt, Question, Reply
from evaluation.alone import aggregation_prompt, ask_all, sample_prompt, told
from evaluation.systems import Done, Entrant, Outcome, System, Trial

LAYERS = 3


def mixture_of_agents(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Calls: 2n + 1. All members propose, all aggregate, and the strongest alone is the third layer."""

    def asked(question: Question, agent: Agent, before: Sequence[Reply], layer: int) -> tuple[Agent, Prompt]:
        if not before:
            return agent, sample_prompt(question, agent.name, trial, 0)
        texts = [reply.text for reply in before]
        return agent, aggregation_prompt(question, agent.name, trial, texts, layer=layer, salt=entrant.salt)

    async def solve(question: Question, _: Done) -> Outcome:
        layers = list[list[Reply]]()
        for layer in range(LAYERS):
            agents = list(entrant.members.values()) if layer < LAYERS - 1 else [entrant.strongest]
            before = layers[-1] if layers else []
            layers.append(await ask_all(asked(question, agent, before, layer) for agent in agents))
        return told(question, layers)

    return [System(f"moa:{entrant.name}", solve, entrant.fingerprint)]
