"""Is a gate worth it? Beside the best single agent, a random one, and the oracle that always knows who is right.

The gate never sees the questions it is judged on. The best single agent is the best on the questions that the gate was
trained on: what anyone without a gate would take. A gain is claimed only where its 95 % interval leaves 0 out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agents.gating import Examples, Gate, top_k
from agents.gating.examples import Floats
from eot.types import Frozen
from evaluation.statistics import Interval, accuracy, difference

MOST_ASKED = 4


class Routed(Frozen):
    """One way to choose one agent: its reward on the test questions, and that less the best single agent's.

    `cost` is the mean cost of whom it asks, in the unit of the costs that were given, None without any; `shares` is
    how often it asks whom.
    """

    name: str
    reward: Interval
    vs_best: Interval
    cost: float | None = None
    shares: Mapping[str, float] = {}


class Preselected(Frozen):
    """Asking `count` agents: how often any of them is right, the gate's choice and the best fixed ones."""

    count: int
    routed: Interval
    fixed: Interval
    gain: Interval


class GateReport(Frozen):
    """What was measured on `questions` that no gate had seen, and what may be said of it."""

    learnt_from: int
    questions: int
    agents: Mapping[str, float]
    routers: tuple[Routed, ...]
    preselected: tuple[Preselected, ...]
    verdict: str


def judge(
    gates: Mapping[str, Gate],
    taught: Examples,
    test: Examples,
    vectors: Floats,
    costs: Mapping[str, float] | None = None,
) -> GateReport:
    """Route the test questions by every gate.

    Args:
        gates: by the name they are shown under; the first is the one that the verdict is about.
        taught: what they were trained on.
        test: questions they have not seen, scored for the same agents; unknown rewards count as 0.
        vectors: [N, d], of the test questions.
        costs: what asking an agent costs, in any one unit; else what the test questions say of it.
    """
    rewards = np.nan_to_num(test.rewards)
    means = np.nanmean(taught.rewards, axis=0)
    order = top_k(means, len(means))
    price = test.costs if costs is None else np.tile([costs.get(name, np.nan) for name in test.agents], (len(test), 1))
    best = np.full(len(test), order[0])
    expected = {name: gate.expected(vectors) for name, gate in gates.items()}
    picks = {name: rows.argmax(axis=1) for name, rows in expected.items()}
    picks |= {f"best single ({test.agents[order[0]]})": best, "oracle": rewards.argmax(axis=1)}
    routers = [_routed(name, chosen, best, rewards, price, test.agents) for name, chosen in picks.items()]
    routers.append(_random(rewards, best, price))
    first = next(iter(gates))
    return GateReport(
        learnt_from=len(taught),
        questions=len(test),
        agents={name: float(means[place]) for place, name in enumerate(test.agents)},
        routers=tuple(routers),
        preselected=tuple(
            _preselected(count, expected[first], order, rewards) for count in range(1, min(MOST_ASKED, len(order)) + 1)
        ),
        verdict=_verdict(routers[0]),
    )


def _routed(
    name: str, chosen: Floats, best: Floats, rewards: Floats, price: Floats | None, agents: Sequence[str]
) -> Routed:
    rows = np.arange(len(rewards))
    counts = np.bincount(chosen, minlength=len(agents)) / len(rewards)
    return Routed(
        name=name,
        reward=accuracy(rewards[rows, chosen].tolist()),
        vs_best=difference(rewards[rows, chosen].tolist(), rewards[rows, best].tolist()),
        cost=None if price is None else _mean(price[rows, chosen]),
        shares={agent: float(share) for agent, share in zip(agents, counts, strict=True) if share},
    )


def _mean(prices: Floats) -> float | None:
    """Over what is known; None where nothing is."""
    known = prices[~np.isnan(prices)]
    return float(known.mean()) if known.size else None


def _random(rewards: Floats, best: Floats, price: Floats | None) -> Routed:
    """The expected reward of asking anyone, by the same chance."""
    mean = rewards.mean(axis=1).tolist()
    return Routed(
        name="random",
        reward=accuracy(mean),
        vs_best=difference(mean, rewards[np.arange(len(rewards)), best].tolist()),
        cost=None if price is None else _mean(price),
    )


def _preselected(count: int, expected: Floats, order: Sequence[int], rewards: Floats) -> Preselected:
    routed = [rewards[row, top_k(expected[row], count)].max() for row in range(len(rewards))]
    fixed = rewards[:, list(order[:count])].max(axis=1).tolist()
    return Preselected(count=count, routed=accuracy(routed), fixed=accuracy(fixed), gain=difference(routed, fixed))


def _verdict(gate: Routed) -> str:
    low, high = 100 * gate.vs_best.low, 100 * gate.vs_best.high
    said = f"{100 * gate.vs_best.mean:+.1f} points [{low:+.1f}, {high:+.1f}] beside the best single agent"
    if low > 0:
        return f"the gate {gate.name} gains {said}"
    if high < 0:
        return f"the gate {gate.name} loses: {said}; ask the best agent alone"
    return f"no gain of the gate {gate.name} can be claimed: {said}"
