"""What a request may take, reckoned before it is made."""

from __future__ import annotations

from collections.abc import Mapping

from agents import Prices
from api.store import Estimate
from eot.settings import GATE, AgentSettings, CouncilSettings

_CHARACTERS_A_TOKEN = 4
_INSTRUCTIONS = 150
"""Tokens of what every prompt says around the question."""


def estimate(
    characters: int,
    council: CouncilSettings,
    agents: Mapping[str, AgentSettings],
    prices: Mapping[str, Prices | None],
) -> Estimate:
    """One question of that many characters put to a council.

    The least is one round of calls, since agents that agree stop; of a lazy council it is half of one. The most is
    every round played, every agent writing all it may and reading all the others. Failed calls that are made again
    come on top.
    """
    total = Estimate()
    question = -(-characters // _CHARACTERS_A_TOKEN) + _INSTRUCTIONS
    names = agents if council.agents[0].startswith(GATE) else council.agents  # a gate may pick anyone
    heard = sum(agents[name].max_tokens for name in names if name in agents)
    rounds = council.rounds if len(names) > 1 else 0
    for name in names:
        if name not in agents:
            continue
        reads = question * (1 + rounds) + heard * rounds
        writes = agents[name].max_tokens * (1 + rounds)
        price = prices.get(name)
        usd = None if price is None else price.cost(reads, writes)
        total += Estimate(calls_most=1 + rounds, input_tokens_most=reads, output_tokens_most=writes, usd_most=usd)
    seats = len(council.agents)
    least = seats // 2 + 1 if council.lazy else seats
    most = total.calls_most if council.budget.calls is None else min(total.calls_most, council.budget.calls)
    return total.model_copy(update={"calls_least": min(least, most), "calls_most": most})
