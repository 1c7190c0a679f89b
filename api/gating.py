"""What `eot gate` does: read scored questions, train a gate, keep it, and say what it is worth."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.gating import READ_CHARACTERS, Examples, Recipe, Scored, digests, examples, fit, save
from agents.gating.examples import Floats
from api.compose import embedder
from api.gated import gate_of, gate_path
from api.report import one_line
from api.store import open_store
from eot.errors import AnswersError, InputError
from eot.settings import Settings
from eot.settings import load as load_settings
from eot.text import clean
from evaluation.datasets import read_questions
from evaluation.gating import GateReport, judge
from evaluation.results import Row
from evaluation.statistics import Interval
from scoring.json_rows import json_rows

_SHAPE = 'a row is {"question": ..., "scores": {AGENT: 0 to 1, ...}}'
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Training:
    """What to learn from: scored rows, or the results of an `eot eval` and its questions, and feedback on runs."""

    name: str
    file: Path | None
    questions: Path | None = None
    feedback: bool = False
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Judging:
    """A kept gate, the scored questions it is judged on, and what asking each agent costs."""

    name: str
    file: Path
    questions: Path | None = None
    costs: Path | None = None


def train_gate(asked: Training, config: Path | None, *, as_json: bool) -> None:
    """Judge the gate on a fifth of the different questions, unseen by it; then train it on everything and keep it.

    Raises:
        AnswersError: a row cannot be read; names file and line.
        InputError: too little to learn from, more neighbours than rows, or the gate cannot be written.
        MissingExtraError, WeightsError: there is nothing to embed questions with.
    """
    settings = load_settings(config)
    found = examples(_rows(asked, settings))
    vectors = embed_questions(found.questions, settings)
    known = digests(found.questions)
    different = np.random.default_rng(asked.recipe.seed).permutation(np.unique(known))
    test = np.isin(known, different[: round(_HELD_OUT * len(different))])
    kept, held = np.flatnonzero(~test), np.flatnonzero(test)
    tried = fit(found.at(kept), vectors[kept], settings.embed.name, asked.recipe)
    report = judge({asked.recipe.method: tried}, found.at(held), vectors[held])
    save(fit(found, vectors, settings.embed.name, asked.recipe), gate_path(settings, asked.name))
    show(report, as_json=as_json)


def report_gate(judging: Judging, config: Path | None, *, as_json: bool) -> None:
    """Judge a kept gate on those of the scored questions that it was not trained on.

    Raises:
        AnswersError, InputError, MissingExtraError, WeightsError: as `train_gate`, or the gate was trained on vectors
            of another model.
    """
    settings = load_settings(config)
    gate = gate_of(judging.name, settings)
    costs = _costs(judging.costs, gate.agents)
    test = read_examples(judging.file, judging.questions).of(gate.agents)
    vectors = embed_questions(test.questions, settings)
    show(judge({judging.name: gate}, test, vectors, costs), as_json=as_json)


def read_examples(file: Path, questions: Path | None) -> Examples:
    """Scored rows of a file; with `questions`, what `results.jsonl` of an evaluation says of single agents."""
    return examples(_from_file(file, questions))


def _rows(asked: Training, settings: Settings) -> Iterator[Scored]:
    if asked.file is None and not asked.feedback:
        raise InputError("nothing to learn from: name a FILE of scored questions, or --feedback")
    if asked.file:
        yield from _from_file(asked.file, asked.questions)
    if asked.feedback:
        yield from asyncio.run(feedback_rows(settings))


async def feedback_rows(settings: Settings) -> list[Scored]:
    """What callers said of runs, oldest first, by the question: of all callers, for the operator's gates."""
    store = open_store(settings.serve.store, settings.home)
    found: list[Scored] = []
    try:
        after = None
        while page := await store.feedback.page(None, 500, after):
            found += [Scored(row.question, row.scores, row.costs) for row in page if row.scores]
            after = page[-1].id
    finally:
        await store.close()
    return found[::-1]


def _from_file(file: Path, questions: Path | None) -> Iterator[Scored]:
    return _from_results(file, questions) if questions else _from_rows(file)


def _from_rows(file: Path) -> Iterator[Scored]:
    for line, value in json_rows(file, _SHAPE):
        for row in value if isinstance(value, list) else [value]:
            yield _scored(row, f"{file}, line {line}")


def _scored(row: Any, place: str) -> Scored:
    question, scores = (
        (row.get("question") or row.get("text"), row.get("scores")) if isinstance(row, dict) else ("", {})
    )
    if not isinstance(question, str) or not question.strip() or not isinstance(scores, dict) or not scores:
        raise AnswersError(f"{place}: {_SHAPE}; this one is {one_line(json.dumps(row, ensure_ascii=False), 80)}")
    if wrong := [name for name, score in scores.items() if not _is_number(score, most=1)]:
        raise AnswersError(f"{place}: the score of {wrong[0]!r} is {scores[wrong[0]]!r}; a score is a number in 0..1")
    costs = row.get("costs", {})
    if fault := _fault_of(costs):
        raise AnswersError(f"{place}: {fault}")
    return Scored(question, scores, costs)


def _is_number(value: Any, most: float = sys.float_info.max) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _fault_of(costs: Any) -> str:
    """What is wrong with costs that were read, or ""."""
    if not isinstance(costs, dict):
        return "costs are {AGENT: number}, of asking it"
    wrong = next((name for name, cost in costs.items() if not _is_number(cost)), None)
    return "" if wrong is None else f"the cost of {wrong!r} is {costs[wrong]!r}; a cost is a finite number, 0 or more"


def _from_results(file: Path, questions: Path) -> Iterator[Scored]:
    """A score of 1 or 0 for each single agent on each graded question, and the dollars that it took where known."""
    scores: dict[str, dict[str, float]] = {}
    costs: dict[str, dict[str, float]] = {}
    for line, value in json_rows(file, "a row is a result of `eot eval`"):
        row = _row(value, f"{file}, line {line}")
        kind, _, agent = row.system.partition(":")
        if kind == "single" and row.correct is not None:
            scores.setdefault(row.question, {})[agent] = float(row.correct)
            if row.outcome and row.outcome.usage.cost_usd is not None:
                costs.setdefault(row.question, {})[agent] = row.outcome.usage.cost_usd
    for asked in read_questions(questions):
        if known := scores.get(asked.question.id):
            yield Scored(asked.question.text, known, costs.get(asked.question.id, {}))


def _row(value: Any, place: str) -> Row:
    try:
        return Row.model_validate(value)
    except ValueError as fault:
        raise AnswersError(f"{place}: not a result of `eot eval`") from fault


def embed_questions(questions: Sequence[str], settings: Settings) -> Floats:
    """[N] questions -> float64[N, d], unit length, of the vote's embedding model."""
    embed = embedder(settings, "emb_a_s")
    assert embed is not None, "emb_a_s raises where nothing can embed"
    return np.asarray(embed([question[:READ_CHARACTERS] for question in questions]), dtype=np.float64)


def _costs(file: Path | None, agents: Sequence[str]) -> dict[str, float] | None:
    if file is None:
        return None
    try:
        found: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(f'{file} gives no costs; write {{"AGENT": number, ...}}') from fault
    if wrong := _fault_of(found):
        raise InputError(f"{file}: {wrong}")
    if unknown := [name for name in found if name not in agents]:
        raise InputError(f"{file}: the gate knows no {unknown[0]!r}; it knows {', '.join(agents)}")
    return found


def show(report: GateReport, *, as_json: bool) -> None:
    """The report as tables, or as one JSON object."""
    if as_json:
        sys.stdout.write(report.model_dump_json() + "\n")
        return
    console = Console()
    console.print(Text(_counted(report)), soft_wrap=True)
    if report.questions:
        console.print(_routers(report))
        console.print(_preselected(report))
    console.print(Text(clean(report.verdict), style="bold"), soft_wrap=True)


def _counted(report: GateReport) -> str:
    left = {
        "that it was taught": report.already_taught,
        "without a score of every agent": report.half_scored,
        "that came again": report.repeated,
    }
    out = (
        "; left out: " + ", ".join(f"{count} {why}" for why, count in left.items() if count)
        if any(left.values())
        else ""
    )
    return f"{report.questions} questions that the gate had not seen; learnt from {report.learnt_from}{out}"


def _routers(report: GateReport) -> Table:
    table = _table("one is asked")
    costly = any(one.cost is not None for one in report.routers)
    for heading in ("asks", "right %", "to best single", *(["cost"] if costly else [])):
        table.add_column(heading, justify="left" if heading == "asks" else "right", no_wrap=heading != "asks")
    for one in report.routers:
        cost = [_cost(one.cost)] if costly else []
        table.add_row(Text(clean(one.name)), said(one.reward), said(one.vs_best, "+"), *cost)
    return table


def _preselected(report: GateReport) -> Table:
    table = _table("any of k right")
    costly = any(one.routed_cost is not None for one in report.preselected)
    for heading in ("k", "the gate's k", "the k best", "gain", *(["cost", "k best's cost"] if costly else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.preselected:
        costs = [_cost(row.routed_cost), _cost(row.fixed_cost)] if costly else []
        routed, fixed = (f"{100 * interval.mean:.1f}" for interval in (row.routed, row.fixed))
        table.add_row(str(row.count), routed, fixed, said(row.gain, "+"), *costs)
    return table


def _cost(cost: float | None) -> str:
    return "" if cost is None else f"{cost:.4g}"


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False, pad_edge=False)


def said(interval: Interval, sign: str = "") -> str:
    """In percent, with its ends."""
    return f"{100 * interval.mean:{sign}.1f} [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"
