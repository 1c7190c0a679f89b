"""What `eot eval --replay` does: votes on recorded answers, the report of it, and the weights it teaches."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.learnt import refuse_to_overwrite, write_learnt
from api.report import one_line
from eot.settings import load
from eot.types import Kind
from evaluation.datasets import Labelled, read_questions
from evaluation.replay import Replay, System, replay
from evaluation.statistics import Interval
from evaluation.weights import toml_snippet
from scoring import AnswerRow, Ballot, Embed, canonical, read_answer, read_answers

SAID = {
    "best_single": "best single",
    "chosen_single": "chosen single",
    "mean_single": "mean single",
    "majority_by_chance": "majority",
    "auto": "auto",
    "word": "words",
    "char": "characters",
    "word+char": "words + chars",
    "emb+word+char": "all three",
    "one_coin": "one-coin weights",
    "gold_weights": "weights from gold",
    "any_right": "any voter right",
}


@dataclass(frozen=True)
class Replaying:
    """What was asked for: the recorded answers, whose, and what to do with them."""

    file: Path
    questions: Path | None = None
    voters: tuple[str, ...] = ()
    embed: bool = False
    learn_weights: Path | None = None
    seed: int = 0


def replay_file(asked: Replaying, config: Path | None, *, as_json: bool) -> None:
    """Vote on every row in every way; print a table, or one JSON object.

    Raises:
        AnswersError: a row cannot be read; names file and line.
        UnknownNameError: a voter that no row has.
        MissingExtraError, WeightsError: embeddings without what embeds.
        InputError: the weights cannot be written where they should.
    """
    if asked.learn_weights:
        refuse_to_overwrite(asked.learn_weights)
    embed = _embedder(config) if asked.embed else None
    rows = read_answers(asked.file)
    if asked.questions:
        rows = _labelled(rows, asked.questions)
    found = replay(rows, voters=asked.voters, embed=embed, seed=asked.seed)
    if as_json:
        sys.stdout.write(found.model_dump_json() + "\n")
    else:
        _print(found)
    if asked.learn_weights:  # last: a full disk takes no report away
        write_learnt(asked.learn_weights, _snippet(found, asked.file))


def _embedder(config: Path | None) -> Embed | None:
    from api.compose import embedder  # noqa: PLC0415  # it brings LangGraph along, which a replay does without

    return embedder(load(config), "emb_a_s")


def _labelled(rows: Iterator[AnswerRow], questions: Path) -> Iterator[AnswerRow]:
    """Rows without a gold take it, and kind and choices, from the labelled question of their id or text."""
    known: dict[str, Labelled] = {}
    for labelled in read_questions(questions):
        known[labelled.question.id] = known[labelled.question.text] = labelled
    for row in rows:
        match = known.get(row.id) or known.get(row.question)
        yield row if row.gold is not None or match is None else _with_gold(row, match)


def _with_gold(row: AnswerRow, match: Labelled) -> AnswerRow:
    kind, choices = match.kind, match.question.choices
    ballots = row.ballots
    if (kind, choices) != (row.kind, row.choices):  # answers were read for what the text alone seemed to ask
        ballots = tuple(replace(ballot, answer=_answer(ballot, kind, choices)) for ballot in ballots)
    return replace(row, kind=kind, choices=choices, gold=match.gold, ballots=ballots)


def _answer(ballot: Ballot, kind: Kind, choices: Mapping[str, str]) -> str | None:
    stated = canonical(ballot.answer, kind, choices) if ballot.answer is not None else None
    return stated or read_answer(ballot.text, kind, choices)


def _snippet(found: Replay, source: Path) -> str:
    how = (
        f"{found.labelled} labelled questions"
        if found.learnt == "gold"
        else f"agreement on {found.questions} questions"
    )
    method = "gold answers" if found.learnt == "gold" else "one-coin Dawid-Skene, no labels"
    return toml_snippet(found.weights, f"{how} of {source.name} ({method}).")


def _print(found: Replay) -> None:
    console = Console()
    if found.systems:
        console.print(_systems(found))
        console.print()
    console.print(_voters(found))
    console.print()
    for line in _facts(found):
        console.print(Text(line), soft_wrap=True)


def _systems(found: Replay) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        title=f"{found.labelled} questions: percent [95 % interval]",
        title_justify="left",
    )
    table.add_column("answered by", no_wrap=True)
    for heading in ("right", "to best single", "to majority"):
        table.add_column(heading, justify="right", no_wrap=True)
    for system in found.systems:
        table.add_row(*_system(system))
    return table


def _system(system: System) -> tuple[str, ...]:
    return (
        SAID.get(system.name, system.name),
        _interval(system.accuracy),
        "" if system.name == "best_single" else _interval(system.vs_best, sign="+"),
        "" if system.name == "majority_by_chance" else _interval(system.vs_majority, sign="+"),
    )


def _interval(interval: Interval, sign: str = "") -> str:
    return f"{100 * interval.mean:{sign}.1f} [{100 * interval.low:{sign}.1f} {100 * interval.high:{sign}.1f}]"


def _voters(found: Replay) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("voter", no_wrap=True)
    for heading in ("alone right", "answered", "estimate", "weight", "speaks"):
        table.add_column(heading, justify="right", no_wrap=True)
    for voter in found.voters:
        table.add_row(
            Text(one_line(voter.name, 22)),
            _interval(voter.alone) if voter.alone else "",
            f"{voter.answered / found.questions:.0%}",
            f"{voter.accuracy:.2f}",
            f"{voter.weight:.2f}",
            f"{voter.speaks:.0%}",
        )
    return table


def _facts(found: Replay) -> Iterator[str]:
    if found.calibration:
        yield "best single: with hindsight; chosen single, weights from gold: learnt on the other four fifths"
        yield "majority: ties at random (the expected score); auto: ties to the text most like the others"
        yield f"support as confidence: expected calibration error {found.calibration.ece:.3f}"
    if unlabelled := found.questions - found.labelled:
        yield f"{unlabelled} of {found.questions} questions have no gold answer; they are not scored"
    learnt = "the gold answers" if found.learnt == "gold" else "agreement alone (one-coin Dawid-Skene)"
    yield f"estimates and weights were learnt from {learnt}"
