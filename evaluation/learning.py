"""What an evaluation teaches a council: how reliable each member is, what its ballot should count, when to stop asking.

Learnt from the members' first answers alone. With gold answers an accuracy is counted, without any it is estimated
from agreement (one-coin Dawid-Skene); `evaluation.weights` makes ballots of them. The gate is calibrated: the lowest
share of the weight behind a leading first answer above which that answer was right `TRUSTED` of the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from eot.types import Frozen
from evaluation.datasets import Labelled
from evaluation.dawid_skene import one_coin_accuracies
from evaluation.grading import is_right
from evaluation.results import Row
from evaluation.weights import Answered, labelled_accuracies, log_odds_weights, shrunk

TRUSTED = 0.9
LOWEST_GATE, CLOSED_GATE = 0.5, 1.0
EPSILON = 1e-9


class Learnt(Frozen):
    """By member: its accuracy alone (shrunk towards .7) and the weight of its ballot. By council: its gate.

    There are no gates without gold answers: how often agreement is right cannot be learnt from agreement.
    """

    source: Literal["gold", "agreement"]
    questions: int
    accuracies: Mapping[str, float]
    weights: Mapping[str, float]
    gates: Mapping[str, float]


def learn(rows: Iterable[Row], questions: Sequence[Labelled], councils: Mapping[str, Sequence[str]]) -> Learnt | None:
    """What these results teach; None when nobody answered a closed question.

    Args:
        rows: of councils (their first answers are taken) and of single agents.
        questions: those that were asked.
        councils: the members of each.
    """
    asked = {labelled.question.id: labelled for labelled in questions if labelled.kind != "open"}
    said: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row.question in asked and row.outcome:
            for agent, answer in _answers(row).items():
                said[row.question].setdefault(agent, answer)
    history = [_answered(asked[question], answers) for question, answers in said.items() if answers]
    if not history:
        return None
    labelled = [row for row in history if row.right is not None]
    taught = labelled or history
    accuracies = labelled_accuracies(labelled) if labelled else one_coin_accuracies(history)
    weights = log_odds_weights(accuracies, taught)
    gates = {name: calibrated_gate(labelled, {agent: weights.get(agent, 1.0) for agent in members})
             for name, members in councils.items()} if labelled else {}  # fmt: skip
    return Learnt(
        source="gold" if labelled else "agreement",
        questions=len(taught),
        accuracies=accuracies,
        weights=weights,
        gates=gates,
    )


def calibrated_gate(history: Sequence[Answered], weights: Mapping[str, float]) -> float:
    """The lowest share in 0.5..1 above which the leading first answer was right `TRUSTED` of the time; 1: none was.

    The share of right answers is shrunk as accuracies are, so that a few lucky questions open no gate. Only questions
    that every member of the council answered count.
    """
    led = [_leading(row, weights) for row in history if row.answers.keys() >= weights.keys()]
    for gate in sorted({LOWEST_GATE, *(share for share, _ in led if LOWEST_GATE < share < CLOSED_GATE - EPSILON)}):
        above = [right for share, right in led if share > gate + EPSILON]
        if above and shrunk(sum(above), len(above)) >= TRUSTED:
            return gate
    return CLOSED_GATE


def _leading(row: Answered, weights: Mapping[str, float]) -> tuple[float, bool]:
    """The leading answer's share of the weight, and whether it is right."""
    behind: defaultdict[str, float] = defaultdict(float)
    for agent, weight in weights.items():
        behind[row.answers[agent]] += weight
    leader = max(behind, key=behind.__getitem__)
    right = any(row.answers[agent] == leader for agent in row.right or () if agent in weights)
    return behind[leader] / sum(weights.values()), right


def _answers(row: Row) -> dict[str, str]:
    """The members' first answers that this row holds, those that could be read."""
    kind, _, agent = row.system.partition(":")
    outcome = row.outcome
    if outcome and kind == "single" and outcome.answer is not None:
        return {agent: outcome.answer}
    if outcome and outcome.exchange:
        return {name: said.answer for name, said in outcome.exchange.first.items() if said.answer is not None}
    return {}


def _answered(asked: Labelled, answers: Mapping[str, str]) -> Answered:
    right, choices = None, asked.question.choices
    if (gold := asked.gold) is not None:
        right = frozenset(a for a, answer in answers.items() if is_right(answer, gold, asked.kind, choices))
    options = len(choices) if asked.kind == "choice" else 2 if asked.kind == "yesno" else 0
    return Answered(answers, right, options or None)
