"""Self-MoA (Li et al. 2025, arXiv 2502.00674): the strongest model sampled several times, aggregated by itself."""

from __future__ import annotations

from collections.abc import Sequence

from eot.types import Question
from evaluation.alone import aggregation_prompt, ask_all, samples, told
from evaluation.baselines.council import calls_in, exchange_of
from evaluation.systems import Done, Entrant, Outcome, System, Trial


def self_moa(entrant: Entrant, trial: Trial) -> Sequence[System]:
    """Calls: the council's on the same question, the last of them the aggregation; two at least."""

    async def solve(question: Question, done: Done) -> Outcome:
        agent, count = entrant.strongest, max(1, calls_in(exchange_of(entrant, done)) - 1)
        drawn = await samples(agent, question, trial, count)
        texts = [reply.text for reply in drawn]
        prompt = aggregation_prompt(question, agent.name, trial, texts, layer=1, salt=entrant.salt)
        return told(question, [drawn, await ask_all([(agent, prompt)])])

    return [System(f"self-moa:{entrant.name}", solve, entrant.fingerprint)]
