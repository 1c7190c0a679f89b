"""Is a gate worth it? Beside the best single agent, a random one, and the oracle that always knows who is right.

A gate is judged on questions it was not taught and that every agent was scored on: a missing score is no wrong answer.
The best single agent is the best on the questions that the gate was trained on: what anyone without a gate would take.
A gain is claimed only where its 95 % interval leaves 0 out, and nothing is said of fewer than ten questions. A question
that comes again is one question, with the mean of its scores: an interval over copies would be too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.gating import Examples, Gate, top_k
from agents.gating.examples import FEWEST, Floats
from eot.types import Frozen
from evaluation.statistics import Interval, accuracy, difference

MOST_ASKED = 4


class Routed(Frozen):
    """One way to choose one agent: its reward on the test questions, and that less the best single agent's.

    `cost` is the mean cost of whom it asks, in the unit of the costs that were given, None unless that of everybody
    it asks is known; `shares` is how often it asks whom.
    """

    name: str
    reward: Interval
    vs_best: Interval
    cost: float | None = None
    shares: Mapping[str, float] = {}


class Preselected(Frozen):
    """Asking `count` agents: how often any of them is right, the gate's choice and the best fixed ones.

    Costs are those of all `count` together, None unless all are known.
    """

    count: int
    routed: Interval
    fixed: Interval
    gain: Interval
    routed_cost: float | None = None
    fixed_cost: float | None = None


class GateReport(Frozen):
    """What was measured on `questions` that no gate had seen, and what may be said of it.

    `already_taught` questions were left out because a gate learnt from them, `half_scored` because an agent had no
    score; `repeated` rows were of a question that is counted already. `agents` says how good each was on what the
    first gate learnt from (`agents.gating.examples.means`).
    """

    learnt_from: int
    questions: int
    already_taught: int
    half_scored: int
    repeated: int
    agents: Mapping[str, float]
    routers: tuple[Routed, ...]
    preselected: tuple[Preselected, ...]
    verdict: str


def judge(
    gates: Mapping[str, Gate], test: Examples, vectors: Floats, costs: Mapping[str, float] | None = None
) -> GateReport:
    """Route the test questions by every gate, but for those that one was taught and those that lack a score.

    Args:
        gates: by the name they are shown under, all of the same agents; the first is the one that the verdict is about.
        test: scored questions, the agents in the gates' order.
        vectors: [N, d], of the test questions.
        costs: what asking an agent costs, in any one unit; else what the test questions say of it.
    """
    name, first = next(iter(gates.items()))
    known = np.any([gate.was_taught(test.questions) for gate in gates.values()], axis=0)
    scored = ~np.isnan(test.rewards).any(axis=1)
    fair = np.flatnonzero(scored & ~known)
    once, places = test.at(fair).each_once()
    order = top_k(first.means, len(first.means))
    routers, preselected = _compared(gates, once, vectors[fair[places]], order, costs) if len(once) else ([], [])
    return GateReport(
        learnt_from=first.learnt_from,
        questions=len(once),
        already_taught=int(known.sum()),
        half_scored=int((~scored & ~known).sum()),
        repeated=len(fair) - len(once),
        agents={agent: float(first.means[place]) for place, agent in enumerate(test.agents)},
        routers=tuple(routers),
        preselected=tuple(preselected),
        verdict=_verdict(routers[0]) if len(once) >= FEWEST else _too_few(name, len(once)),
    )


def _compared(
    gates: Mapping[str, Gate],
    test: Examples,
    vectors: Floats,
    order: Sequence[int],
    costs: Mapping[str, float] | None,
) -> tuple[list[Routed], list[Preselected]]:
    rewards = test.rewards
    price = test.costs if costs is None else np.tile([costs.get(name, np.nan) for name in test.agents], (len(test), 1))
    best = np.full(len(test), order[0])
    expected = {name: gate.expected(vectors) for name, gate in gates.items()}
    picks = {name: rows.argmax(axis=1) for name, rows in expected.items()}
    picks |= {f"best single ({test.agents[order[0]]})": best, "oracle": _oracle(rewards, price)}
    routers = [_routed(name, chosen, best, rewards, price, test.agents) for name, chosen in picks.items()]
    routers.append(_random(rewards, best, price))
    first = next(iter(expected.values()))
    counts = range(1, min(MOST_ASKED, len(order)) + 1)
    return routers, [_preselected(count, first, order, rewards, price) for count in counts]


def _oracle(rewards: Floats, price: Floats | None) -> NDArray[np.intp]:
    """The best of each row, [N]; of equals the cheapest, and the first where nobody knows what they cost."""
    return np.lexsort((np.zeros_like(rewards) if price is None else price, -rewards), axis=1)[:, 0]


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
    """None where one is unknown: a mean over the others would be that of other questions, or of other agents."""
    return None if np.isnan(prices).any() else float(prices.mean())


def _random(rewards: Floats, best: Floats, price: Floats | None) -> Routed:
    """The expected reward of asking anyone, by the same chance."""
    mean = rewards.mean(axis=1).tolist()
    return Routed(
        name="random",
        reward=accuracy(mean),
        vs_best=difference(mean, rewards[np.arange(len(rewards)), best].tolist()),
        cost=None if price is None else _mean(price),
    )


def _preselected(
    count: int, expected: Floats, order: Sequence[int], rewards: Floats, price: Floats | None
) -> Preselected:
    chosen = np.array([top_k(row, count) for row in expected])  # N K
    always = np.tile(order[:count], (len(rewards), 1))
    routed, fixed = (np.take_along_axis(rewards, who, axis=1).max(axis=1).tolist() for who in (chosen, always))
    spent = [
        None if price is None else _mean(np.take_along_axis(price, who, axis=1).sum(axis=1)) for who in (chosen, always)
    ]
    return Preselected(
        count=count,
        routed=accuracy(routed),
        fixed=accuracy(fixed),
        gain=difference(routed, fixed),
        routed_cost=spent[0],
        fixed_cost=spent[1],
    )


def _verdict(gate: Routed) -> str:
    low, high = 100 * gate.vs_best.low, 100 * gate.vs_best.high
    said = f"{100 * gate.vs_best.mean:+.1f} points [{low:+.1f}, {high:+.1f}] beside the best single agent"
    if low > 0:
        return f"the gate {gate.name} gains {said}"
    if high < 0:
        return f"the gate {gate.name} loses: {said}; ask the best agent alone"
    return f"no gain of the gate {gate.name} can be claimed: {said}"


def _too_few(name: str, count: int) -> str:
    wanted = f"{FEWEST} or more are needed that it was not taught, with a score of every agent"
    return f"nothing can be said of the gate {name} on {count} questions: {wanted}"
