"""How much each agent's ballot should count, from questions it answered before.

An estimated accuracy p becomes the log-odds weight ln(p (K - 1) / (1 - p)), which makes the weighted majority the most
likely answer when agents err independently and a wrong answer is any of the K - 1 others (Nitzan & Paroush, 1982, for
K = 2). Few questions say little, so p = (right + 10 x 0.7) / (answered + 10), held within .05 and .95: no agent is
trusted without end, and none becomes a dictator because a clique agrees with it.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

SHRINK_TOWARDS, PSEUDO_QUESTIONS = 0.7, 10
LOWEST, HIGHEST = 0.05, 0.95
SMALLEST_WEIGHT = 0.01
"""A ballot's weight must be above 0: an agent worse than chance all but loses its vote; it is not turned round."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One question of the history: each agent's canonical answer (abstentions left out), and who was right if known.

    `options` is the number of answers that a question offers, where it does.
    """

    answers: Mapping[str, str]
    right: AbstractSet[str] | None = None
    options: int | None = None

    @property
    def candidates(self) -> int:
        """K: the options that were offered; for an open answer space the distinct answers seen, at least 2."""
        return max(2, self.options or len(set(self.answers.values())))


def shrunk(right: float, answered: float) -> float:
    """The accuracy estimated from `right` of `answered` questions: towards .7, within .05 and .95."""
    estimate = (right + PSEUDO_QUESTIONS * SHRINK_TOWARDS) / (answered + PSEUDO_QUESTIONS)
    return min(HIGHEST, max(LOWEST, estimate))


def labelled_accuracies(history: Sequence[Answered]) -> dict[str, float]:
    """Each agent's shrunk accuracy on the labelled questions. Those it abstained from do not count."""
    right, answered = Counter[str](), Counter[str]()
    for row in history:
        for agent in row.answers:
            answered[agent] += row.right is not None
            right[agent] += agent in (row.right or ())
    return {agent: shrunk(right[agent], answered[agent]) for agent in answered}


def static_weights(history: Sequence[Answered]) -> dict[str, float]:
    """Ballot weights from a labelled history."""
    return log_odds_weights(labelled_accuracies(history), history)


def log_odds_weights(accuracies: Mapping[str, float], history: Sequence[Answered]) -> dict[str, float]:
    """ln(p (K - 1) / (1 - p)) with K the mean number of candidates, scaled to a mean of 1, all above 0.

    Scaling changes no vote: an answer wins by its share of the weight.
    """
    if not accuracies:
        return {}
    others = sum(row.candidates - 1 for row in history) / len(history) if history else 1.0
    raw = {agent: max(SMALLEST_WEIGHT, math.log(p * others / (1 - p))) for agent, p in accuracies.items()}
    mean = sum(raw.values()) / len(raw)
    return {agent: weight / mean for agent, weight in raw.items()}


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_snippet(weights: Mapping[str, float], learnt_from: str, gates: Mapping[str, float] | None = None) -> str:
    """Tables `[agents.NAME]` with their weight and `[councils.NAME]` with their gate, as `eot.toml` takes them.

    `learnt_from` becomes the comment above.
    """
    comment = " ".join(learnt_from.split())
    tables = [f"[agents.{_key(agent)}]\nweight = {weight:.4f}\n" for agent, weight in weights.items()]
    tables += [f"[councils.{_key(council)}]\ngate = {_floor(gate):g}\n" for council, gate in (gates or {}).items()]
    return "\n".join([f"{HEADER} {comment}\n# Put each line into the table of that name.\n", *tables])


def _floor(gate: float) -> float:
    """Never above the share it was learnt from: rounding up would shut out that very share."""
    return math.floor(gate * 10_000) / 10_000


HEADER = "# Weights learnt by `eot eval --learn-weights`:"
"""The first line of what is written, by which a file of weights is known as one."""


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
