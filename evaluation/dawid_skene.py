"""How reliable each agent is, learnt from agreement alone: one-coin Dawid-Skene by EM, no labels.

Dawid & Skene (Applied Statistics 28, 1979), each agent's confusion matrix reduced to one accuracy: agent j is right
with p_j, and otherwise gives any of the K_q - 1 wrong answers of question q alike. K_q is the number of options where
the question offers some. Where the answer space is open it is the number of distinct answers seen on the question (at
least 2), and the truth is taken to be one of them: a question on which all are wrong counts for the most agreed error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.weights import HIGHEST, LOWEST, PSEUDO_QUESTIONS, SHRINK_TOWARDS, Answered, log_odds_weights

ROUNDS, TOLERANCE = 200, 1e-6

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def one_coin_weights(history: Sequence[Answered]) -> dict[str, float]:
    """Ballot weights from an unlabelled history."""
    return log_odds_weights(one_coin_accuracies(history), history)


def one_coin_accuracies(history: Sequence[Answered]) -> dict[str, float]:
    """Each agent's estimated accuracy, shrunk and clamped as in `evaluation.weights`. O(ballots) a round of EM.

    The first guess of the truth is the share of the ballots, so the crowd is trusted: a majority that is wrong in the
    same way on most questions teaches its error.
    """
    poll = _flat(history)
    truth = _share(poll, np.ones(len(poll.agents)))
    accuracies = np.full(len(poll.agents), SHRINK_TOWARDS)
    for _ in range(ROUNDS):
        before, accuracies = accuracies, _accuracies(poll, truth)
        if np.abs(accuracies - before).max(initial=0.0) < TOLERANCE:
            break
        truth = _posterior(poll, accuracies)
    return dict(zip(poll.agents, accuracies.tolist(), strict=True))


@dataclass(frozen=True)
class _Poll:
    """Ballots b and candidates c (a distinct answer of a question), flat over all questions q.

    agent[b], candidate[b], question[c]; others[c] = K_q - 1.
    """

    agents: tuple[str, ...]
    agent: Places
    candidate: Places
    question: Places
    others: Floats


def _flat(history: Sequence[Answered]) -> _Poll:
    agents = {agent: at for at, agent in enumerate(dict.fromkeys(a for row in history for a in row.answers))}
    candidates: dict[tuple[int, str], int] = {}
    ballots = [
        (agents[agent], candidates.setdefault((at, said), len(candidates)))
        for at, row in enumerate(history)
        for agent, said in row.answers.items()
    ]
    pairs = np.array(ballots, dtype=np.intp).reshape(-1, 2)
    question = np.array([at for at, _ in candidates], dtype=np.intp)
    others = np.array([history[at].candidates - 1 for at, _ in candidates], dtype=np.float64)
    return _Poll(tuple(agents), pairs[:, 0], pairs[:, 1], question, others)


def _share(poll: _Poll, weights: Floats) -> Floats:
    """weights[agents] -> truth[c]: each candidate's share of its question's weight."""
    mass = np.bincount(poll.candidate, weights[poll.agent], len(poll.question))
    return np.asarray(mass / np.bincount(poll.question, mass)[poll.question])


def _accuracies(poll: _Poll, truth: Floats) -> Floats:
    """M step: truth[c] -> p[agents], as `evaluation.weights.shrunk` for all agents at once."""
    agreed = np.bincount(poll.agent, truth[poll.candidate], len(poll.agents))
    answered = np.bincount(poll.agent, minlength=len(poll.agents))
    estimate = (agreed + PSEUDO_QUESTIONS * SHRINK_TOWARDS) / (answered + PSEUDO_QUESTIONS)
    return np.asarray(np.clip(estimate, LOWEST, HIGHEST))


def _posterior(poll: _Poll, p: Floats) -> Floats:
    """E step: p[agents] -> truth[c], the softmax over a question's candidates of the voters' log-odds."""
    odds = np.log(p / (1 - p))[poll.agent] + np.log(poll.others)[poll.candidate]
    score = np.bincount(poll.candidate, odds, len(poll.question))
    best = np.full(poll.question.max(initial=-1) + 1, -np.inf)
    np.maximum.at(best, poll.question, score)
    likely = np.exp(score - best[poll.question])
    return np.asarray(likely / np.bincount(poll.question, likely)[poll.question])
