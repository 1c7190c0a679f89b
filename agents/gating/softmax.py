"""A linear gate: logits = W e(q) + b, trained on who was right and on the expected reward of whom it would pick.

Options from the mixture-of-experts literature, at the level of whole agents: noise on the logits while it learns, of
one constant size (Shazeer et al., arXiv 1701.06538, learn its size from the token; this does not), and Switch's balance
loss (arXiv 2101.03961). Balancing to *equal* shares costs accuracy where agents differ in quality, so its weight is 0
by default; serving balances to target shares instead (`agents.gating.choose`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.gating.examples import Floats, means

EPOCHS, BATCH, RATE, DECAY = 60, 64, 0.02, 1e-3
SHARPNESS = 4.0
"""The softmax's inverse temperature over expected rewards, when one of them is picked by chance."""


@dataclass(frozen=True)
class Linear:
    """weights[d, M] and bias[M].

    `expected` is meant as each agent's chance to be right, and nothing sees to it that it is: half of the loss is about
    the pick instead, and what it learnt by heart it is too sure of.
    """

    weights: Floats
    bias: Floats

    def expected(self, vectors: Floats) -> Floats:
        """vectors[Q, d] -> [Q, M] in 0..1."""
        return _sigmoid(vectors @ self.weights + self.bias)


def train(vectors: Floats, rewards: Floats, *, noise: float = 0.0, balance: float = 0.0, seed: int = 0) -> Linear:
    """Fit by Adam: cross-entropy of each known reward minus the expected reward of the softmax's pick among the known.

    Who was not asked a question is neither right nor wrong there: nothing is learnt of it.

    Args:
        vectors: [N, d], unit length.
        rewards: [N, M] in 0..1, NaN where unknown.
        noise: standard deviation of the noise on the logits while training.
        balance: weight of Switch's balance loss M x sum of f_m p_m.
        seed: of the order, the noise and the start.
    """
    draw = np.random.default_rng(seed)
    known = ~np.isnan(rewards)
    target = np.where(known, rewards, 0.0)
    mean = means(rewards)
    weights = draw.normal(0, 0.01, (vectors.shape[1], rewards.shape[1]))
    bias = np.log(mean / (1 - mean))
    adam = _Adam([weights, bias])
    for _ in range(EPOCHS):
        order = draw.permutation(len(vectors))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            logits = vectors[rows] @ weights + bias
            logits = logits + noise * draw.normal(size=logits.shape)
            slope = _slope(logits, target[rows], known[rows], balance) / len(rows)  # B M
            adam.step([vectors[rows].T @ slope + DECAY * weights, slope.sum(axis=0)])
    return Linear(weights, bias)


def _slope(logits: Floats, target: Floats, known: Floats, balance: float) -> Floats:
    """The loss's derivative by the logits, B M."""
    entropy = np.where(known, _sigmoid(logits) - target, 0.0)
    sharp = np.exp(SHARPNESS * _sigmoid(logits))
    inner = SHARPNESS * _sigmoid(logits) * (1 - _sigmoid(logits))
    asked = _shares(sharp * known)
    expected = (asked * target).sum(axis=1, keepdims=True)
    reward = -asked * (target - expected) * inner
    if not balance:
        return np.asarray(entropy + reward)
    share, count = _shares(sharp), logits.shape[1]
    load = np.bincount(logits.argmax(axis=1), minlength=count) / len(logits)
    even = balance * count * share * (load - (share * load).sum(axis=1, keepdims=True)) * inner
    return np.asarray(entropy + reward + even)


class _Adam:
    """Kingma & Ba, arXiv 1412.6980, with its own defaults. Changes the parameters in place."""

    def __init__(self, parameters: list[Floats]) -> None:
        self._moments = [(one, np.zeros_like(one), np.zeros_like(one)) for one in parameters]
        self._steps = 0

    def step(self, slopes: list[Floats]) -> None:
        self._steps += 1
        for (parameter, first, second), slope in zip(self._moments, slopes, strict=True):
            np.copyto(first, 0.9 * first + 0.1 * slope)
            np.copyto(second, 0.999 * second + 0.001 * slope**2)
            size = np.sqrt(second / (1 - 0.999**self._steps)) + 1e-8
            np.subtract(parameter, RATE * first / (1 - 0.9**self._steps) / size, out=parameter)


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -30, 30))))


def _shares(value: Floats) -> Floats:
    """Each row over its sum; a row of zeros stays one."""
    total = value.sum(axis=1, keepdims=True)
    return np.asarray(value / np.where(total, total, 1.0))
