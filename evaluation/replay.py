"""Votes on recorded answers, without asking any model: what each vote makes of the same texts, beside each voter alone.

The systems, by name: `majority_by_chance` counts answers and breaks ties at random (the score is the expected one);
`auto` is the product's default vote: the same count, ties to the text most like the others; `word`, `char` and their
sum pick a text by similarity alone; `one_coin` weighs the count by accuracies learnt from agreement on the very same
questions, no label seen; `gold_weights` by accuracies learnt from the labels of the other four folds, as
`chosen_single` picks one voter from them; `best_single` is picked with hindsight; `any_right` bounds every choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from eot.errors import AnswersError, UnknownNameError
from eot.types import Frozen
from evaluation.dawid_skene import one_coin_accuracies
from evaluation.hear import Heard, hear
from evaluation.statistics import Calibration, Interval, accuracy, calibration, difference
from evaluation.weights import SHRINK_TOWARDS, labelled_accuracies, log_odds_weights, static_weights
from scoring import AnswerRow, Ballot, Embed, vote

FOLDS = 5


class Voter(Frozen):
    """One voter: how often it is right alone, how often it answered, what it learnt weight is, how often it speaks.

    `alone` is None without labels; an abstention counts as wrong. `accuracy` is the estimate (shrunk, clamped) that
    the weight comes from. `speaks` is the share of the questions on which its text is the verdict of `auto`.
    """

    name: str
    alone: Interval | None
    answered: int
    accuracy: float
    weight: float
    speaks: float


class System(Frozen):
    """How often one way to answer is right, and how much more often than the best single voter and than the count."""

    name: str
    accuracy: Interval
    vs_best: Interval
    vs_majority: Interval


class Replay(Frozen):
    """The report of one replay. Without labels there are voters and weights, and no systems."""

    questions: int
    labelled: int
    best: str | None
    voters: tuple[Voter, ...]
    systems: tuple[System, ...]
    calibration: Calibration | None
    learnt: Literal["gold", "one-coin"]

    @property
    def weights(self) -> dict[str, float]:
        return {voter.name: voter.weight for voter in self.voters}


def replay(
    rows: Iterable[AnswerRow], *, voters: Sequence[str] = (), embed: Embed | None = None, seed: int = 0
) -> Replay:
    """Vote on every row in every way, and score each where the row has a gold.

    Args:
        rows: recorded answers, as `scoring.read_answers` gives them; read once, one at a time.
        voters: only these take part, in this order of priority; all by default.
        embed: adds embeddings to the sum of similarities. Slow.
        seed: of the bootstrap.

    Raises:
        UnknownNameError: no row has an answer by one of `voters`.
        AnswersError: there is no row.
    """
    embed = _remembering(embed)
    seen: dict[str, None] = {}
    heard = []
    for row in rows:
        seen |= dict.fromkeys(ballot.voter for ballot in row.ballots)
        heard.append(hear(row, voters, embed))
    if not heard:
        raise AnswersError("there are no answers to replay")
    for name in voters:
        if name not in seen:
            raise UnknownNameError("voter", name, seen)
    return _report(heard, seed)


def _remembering(embed: Embed | None) -> Embed | None:
    """Several votes in turn embed the same texts: once is enough."""
    if embed is None:
        return None
    kept = lru_cache(maxsize=2)(embed)
    return lambda texts: kept(tuple(texts))


def _report(heard: Sequence[Heard], seed: int) -> Replay:
    names = list(dict.fromkeys(name for row in heard for name in row.voters))
    labelled = [row for row in heard if row.labelled]
    history = [row.answered for row in heard]
    agreed = one_coin_accuracies(history)
    accuracies = labelled_accuracies([row.answered for row in labelled]) if labelled else agreed
    learnt = (accuracies, log_odds_weights(accuracies, history))
    alone = {name: [float(name in (row.answered.right or ())) for row in labelled] for name in names}
    best = max(names, key=lambda name: sum(alone[name])) if labelled else None
    columns = _columns(labelled, alone, log_odds_weights(agreed, history)) if labelled else {}
    return Replay(
        questions=len(heard),
        labelled=len(labelled),
        best=best,
        voters=tuple(_voter(name, heard, alone[name], learnt, seed) for name in names),
        systems=tuple(_system(name, columns, seed) for name in columns),
        calibration=calibration([row.support for row in labelled], columns["auto"]) if labelled else None,
        learnt="gold" if labelled else "one-coin",
    )


def _voter(
    name: str,
    heard: Sequence[Heard],
    alone: Sequence[float],
    learnt: tuple[Mapping[str, float], Mapping[str, float]],
    seed: int,
) -> Voter:
    accuracies, weights = learnt
    return Voter(
        name=name,
        alone=accuracy(alone, seed=seed) if alone else None,
        answered=sum(name in row.answered.answers for row in heard),
        accuracy=accuracies.get(name, SHRINK_TOWARDS),
        weight=weights.get(name, 1.0),
        speaks=sum(row.speaker == name for row in heard) / len(heard),
    )


def _system(name: str, columns: Mapping[str, Sequence[float]], seed: int) -> System:
    return System(
        name=name,
        accuracy=accuracy(columns[name], seed=seed),
        vs_best=difference(columns[name], columns["best_single"], seed=seed),
        vs_majority=difference(columns[name], columns["majority_by_chance"], seed=seed),
    )


def _columns(
    labelled: Sequence[Heard], alone: Mapping[str, Sequence[float]], agreed: Mapping[str, float]
) -> dict[str, list[float]]:
    """One score a labelled question, for each system."""
    by_row = list(dict.fromkeys(name for row in labelled for name in row.scores))
    return {
        "best_single": list(max(alone.values(), key=sum)),
        "mean_single": [sum(marks) / len(marks) for marks in zip(*alone.values(), strict=True)],
        **{name: [row.scores.get(name, 0.0) for row in labelled] for name in by_row},
        "one_coin": [_weighted(row, agreed) for row in labelled],
        **_cross_fitted(labelled, alone),
        "any_right": [float(bool(row.answered.right)) for row in labelled],
    }


def _cross_fitted(labelled: Sequence[Heard], alone: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """What labels can teach, each question answered by what the other folds taught. Question i is in fold i mod 5."""
    weighted, chosen = [0.0] * len(labelled), [0.0] * len(labelled)
    for fold in range(FOLDS):
        others = [at for at in range(len(labelled)) if at % FOLDS != fold]
        weights = static_weights([labelled[at].answered for at in others])
        best = max(alone, key=lambda name: sum(alone[name][at] for at in others))
        for at in range(fold, len(labelled), FOLDS):
            weighted[at], chosen[at] = _weighted(labelled[at], weights), alone[best][at]
    return {"gold_weights": weighted, "chosen_single": chosen}


def _weighted(row: Heard, weights: Mapping[str, float]) -> float:
    """The count by weights. Its rare ties go to the heaviest voter: texts are gone by now."""
    if not row.answered.answers:
        return 0.0
    ballots = [Ballot(voter, "", said, weight=weights.get(voter, 1.0)) for voter, said in row.answered.answers.items()]
    return float(vote(ballots, method="majority", kind=row.kind).answer in row.right_answers)
