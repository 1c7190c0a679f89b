"""The whole of an evaluation: ask, grade, compare, and lay down a folder that says what came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from agents import Budget
from eot.errors import EotError, MissingExtraError
from evaluation.baselines import systems_of
from evaluation.datasets import Labelled
from evaluation.learning import learn
from evaluation.page import page
from evaluation.plots import plots
from evaluation.results import Results, Row
from evaluation.runner import Watch, fingerprint, run_systems
from evaluation.summary import Report, summarise
from evaluation.systems import Entrant, System, Trial

DEFAULT_BASELINES = ("cot", "sc", "sc-tokens", "self-moa", "moa", "best-single")


async def evaluate(
    questions: Sequence[Labelled],
    entrants: Sequence[Entrant],
    out: Path,
    baselines: Sequence[str] = DEFAULT_BASELINES,
    *,
    trial: Trial | None = None,
    budget: Budget | None = None,
    watch: Watch | None = None,
) -> Report:
    """Compare councils and baselines on these questions, and write `results.jsonl` and the report into `out`.

    Run again with the same folder it asks only for what is missing: after a death, a cap, or with one more baseline.

    Args:
        questions: of unique ids; those without a gold are answered and not graded.
        entrants: the councils.
        out: a folder, made if need be: results.jsonl, report.json, report.html and a PNG for each plot.
        baselines: names in `BASELINES`; the vote over round 0 always takes part.
        trial: the id that kept answers are found under, the seed, and how many questions are in work at once.
        budget: what may be newly spent; the agents' makers must have put it inside their memo.
        watch: is handed the progress after every result.

    Raises:
        UnknownNameError: there is no such baseline.
        InputError: the folder cannot be written, or another run is writing it.
        AnswersError: a line of its results is none; names file and line.
        EotError: the disk is full; what was answered is kept.
    """
    trial = trial or Trial()
    systems = systems_of(entrants, baselines, trial)
    with Results(out / "results.jsonl") as results:
        ended = await run_systems(questions, systems, results, trial, budget=budget, watch=watch)
        report = summarise(_rows(questions, systems, results, trial), ended=ended)
        councils = {entrant.name: tuple(entrant.members) for entrant in entrants}
        learnt = learn(_rows(questions, systems, results, trial), questions, councils)
        report = report.model_copy(update={"learnt": learnt})
    return write(report, questions, out)


def write(report: Report, questions: Sequence[Labelled], out: Path) -> Report:
    """Lay the report down in `out`; without matplotlib there are no plots, and the report says so.

    Raises:
        EotError: a file cannot be written.
    """
    try:
        drawn = plots(report)
    except MissingExtraError as fault:
        report, drawn = report.model_copy(update={"notes": (*report.notes, f"no plots: {fault}")}), {}
    text = page(report, {asked.question.id: asked for asked in questions}, drawn)
    files = {f"{name}.png": data for name, data in drawn.items()}
    files |= {"report.json": report.model_dump_json(indent=1).encode(), "report.html": text.encode()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (out / name).write_bytes(data)
    except OSError as fault:
        raise EotError(f"the report cannot be written to {out}: {fault}; the results are kept: run it again") from fault
    return report


def _rows(questions: Sequence[Labelled], systems: Sequence[System], results: Results, trial: Trial) -> Iterator[Row]:
    """What the file has of these systems and questions, and nothing else that it may hold from earlier runs."""
    for system in systems:
        for asked in questions:
            if row := results.find(system.name, asked.question.id, fingerprint(system, asked, trial)):
                yield row
