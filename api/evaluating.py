"""What `eot eval` does with live councils: read the questions, seat who takes part, run it, print the report."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from agents import Budget
from api.compose import House
from api.defaults import with_defaults
from api.gated import all_seated, candidates
from api.learnt import refuse_to_overwrite, write_learnt
from api.report import one_line
from api.stocking import bring_for
from eot.errors import BudgetError, InputError, NoQuorumError, UnknownNameError
from eot.settings import BudgetSettings, CouncilSettings, Settings, load
from eot.text import clean
from eot.types import Question
from evaluation import BASELINES, Entrant, Labelled, Report, Trial, Watch, evaluate, read_questions
from evaluation import Progress as Step
from evaluation.cells import COMPARED, SCORED, comparison_cells, score_cells
from evaluation.exchanged import Exchanged
from evaluation.learning import Learnt
from evaluation.summary import Comparison
from evaluation.weights import toml_snippet
from topologies import Council


@dataclass(frozen=True)
class Evaluating:
    """An evaluation as it was typed, before anything about it was checked. `caps` by name: calls, tokens, usd."""

    questions: Path | None
    out: Path
    councils: tuple[str, ...]
    baselines: tuple[str, ...]
    caps: Mapping[str, float | None]
    limit: int | None = None
    seed: int = 0
    at_once: int = 8
    learn_weights: Path | None = None


EVERY_SECONDS = 60.0
"""How often a log is told how far it is."""
# A terminal has room for these columns of a report's tables; the page has them all.
_SCORES = tuple(
    SCORED.index(name) for name in ("system", "right %", "95 %", "calls", "tokens in", "tokens out", "$", "s")
)
_PAIRS = tuple(COMPARED.index(name) for name in ("baseline", "difference %", "95 %", "only it", "only the other", "p"))
_LONGEST = 400


def evaluate_file(asked: Evaluating, config: Path | None, *, as_json: bool) -> None:
    """Run it; print tables, or the report as one JSON object. What could be refused is, before anything is spent.

    Raises:
        AnswersError: a question cannot be read; names file and line.
        UnknownNameError: no such council or baseline.
        BudgetError: a cap ended it early; the report on what there is was printed.
        NoQuorumError: every question failed.
    """
    if asked.learn_weights:
        refuse_to_overwrite(asked.learn_weights)
    settings, caps = with_defaults(load(config)), _caps(asked)
    councils, questions = _councils(asked, settings), _questions(asked)
    for council in councils.values():
        bring_for(council, settings)
    with _watched() as watch:
        report = asyncio.run(_run(asked, questions, House(settings, spending=Budget(caps)), councils, watch))
    if as_json:
        sys.stdout.write(report.model_dump_json() + "\n")
    else:
        _print(report, asked.out)
    if asked.learn_weights:
        _write_learnt(report.learnt, asked.learn_weights, asked)
    if report.ended:
        raise BudgetError(f"the cap of {report.ended} ended it early; run it again with a higher one to go on")
    if not any(score.answered for score in report.scores):
        raise NoQuorumError("every question failed: " + "; ".join(report.notes))


def _write_learnt(learnt: Learnt | None, path: Path, asked: Evaluating) -> None:
    if learnt is None:
        raise InputError("--learn-weights: no closed question was answered, so there is nothing to learn from")
    how = "gold answers" if learnt.source == "gold" else "one-coin Dawid-Skene, no labels"
    source = asked.questions.name if asked.questions else "?"
    write_learnt(path, toml_snippet(learnt.weights, f"{learnt.questions} questions of {source} ({how}).", learnt.gates))


def _caps(asked: Evaluating) -> BudgetSettings:
    try:
        return BudgetSettings(**{cap: value for cap, value in asked.caps.items() if value is not None})
    except ValidationError as fault:
        said = (f"--max-{error['loc'][0]}: read {error['input']!r}; {error['msg']}" for error in fault.errors())
        raise InputError("; ".join(said)) from fault


def _questions(asked: Evaluating) -> list[Labelled]:
    """The whole file is read whatever the limit: a wrong row is told before anything is spent."""
    if asked.questions is None:
        raise InputError("say what to ask: eot eval questions.jsonl, or which recorded answers: eot eval --replay FILE")
    return list(read_questions(asked.questions))[: asked.limit]


def _councils(asked: Evaluating, settings: Settings) -> dict[str, CouncilSettings]:
    for name in asked.councils:
        if name not in settings.councils:
            raise UnknownNameError("council", name, settings.councils)
    for name in asked.baselines:
        if name not in BASELINES:
            raise UnknownNameError("baseline", name, BASELINES)
    if not asked.councils:
        raise InputError("name one council or more: --councils a,b")
    return {name: settings.councils[name] for name in asked.councils}


async def _run(
    asked: Evaluating,
    questions: Sequence[Labelled],
    house: House,
    councils: Mapping[str, CouncilSettings],
    watch: Watch | None,
) -> Report:
    trial = Trial(seed=asked.seed, at_once=asked.at_once)
    try:
        entrants = [await _entrant(house, name, council) for name, council in councils.items()]
        return await evaluate(
            questions, entrants, asked.out, asked.baselines, trial=trial, budget=house.spending, watch=watch
        )
    finally:
        await house.close()


async def _entrant(house: House, name: str, council: CouncilSettings) -> Entrant:
    """The council, and its members without its caps: a baseline is held to what the council really spent."""
    settings = house.settings
    prints = {
        agent: _print_of(settings.agents[agent].model_dump_json(exclude=_SHAPELESS))
        for agent in candidates(council, settings)
    }
    table = settings.topologies.get(council.topology, {})
    free = await house.council(all_seated(council, settings).model_copy(update={"budget": BudgetSettings()}))

    async def seat(question: Question) -> Council:
        return await house.council(await house.seated(council, question))

    return Entrant(
        name=name,
        seat=seat,
        members=free.agents,
        fingerprint=_print_of(f"{council.model_dump_json()} {table} {prints} {settings.embed}"),
        prints=prints,
        salt=free.salt,
    )


_SHAPELESS = {"api_key", "api_key_env", "deadline", "retries"}
"""Settings of an agent that change nothing about its text, its price or its weight."""


def _print_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _watched() -> Iterator[Watch]:
    """A bar with what is spent and what time is left, on a terminal; in a log the same as a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("waking the agents …", total=None)

        def watch(step: Step) -> None:
            bar.update(task, completed=step.done, total=step.total, description=_progress(step))

        yield watch


def _lines(console: Console) -> Watch:
    told = time.monotonic()

    def watch(step: Step) -> None:
        nonlocal told
        if time.monotonic() - told >= EVERY_SECONDS:
            told = time.monotonic()
            with suppress(OSError):  # nobody reads the log any more: no reason to end what was paid for
                console.file.write(f"{step.done:,} of {step.total:,} results · {_progress(step)}\n")
                console.file.flush()

    return watch


def _progress(step: Step) -> str:
    left = "" if step.eta is None else f" · {_clock(step.eta)} left"
    failed = f" · {step.failed} failed" if step.failed else ""
    spent = "unknown" if step.spent.cost_usd is None else f"{step.spent.cost_usd:.2f} $"
    return f"{step.spent.calls:,} new calls · {step.spent.tokens:,} tokens · {spent}{failed}{left}"


def _clock(seconds: float) -> str:
    minutes, hours = divmod(round(seconds), 60)[0], round(seconds) // 3600
    return f"{hours} h {minutes % 60:02d}" if hours else f"{minutes}:{round(seconds) % 60:02d}"


def _print(report: Report, out: Path) -> None:
    console = Console()
    graded = max((score.graded for score in report.scores), default=0)
    title = f"{graded} graded questions; means a question"
    console.print(
        _table(title, [_chosen(SCORED, _SCORES), *(_chosen(score_cells(one), _SCORES) for one in report.scores)])
    )
    for one in report.exchanges:
        _print_council(console, one, [c for c in report.comparisons if _concerns(c, one.council)])
    if report.learnt:
        console.print(Text(_reliable(report.learnt)), soft_wrap=True)
    for note in report.notes:
        console.print(Text(clean(note), style="yellow"))
    console.print(Text(f"report: {out / 'report.html'}", style="bold"))


def _reliable(learnt: Learnt) -> str:
    """One line a report: how often each member's first answer is right, by count or by estimate."""
    how = "counted" if learnt.source == "gold" else "estimated from agreement"
    told = ", ".join(f"{agent} {share:.0%}" for agent, share in learnt.accuracies.items())
    return f"reliability ({how}, towards 70 % where little is known): {told}"


def _print_council(console: Console, one: Exchanged, beside: Sequence[Comparison]) -> None:
    rows = [_chosen(COMPARED, _PAIRS), *(_chosen(comparison_cells(comparison), _PAIRS) for comparison in beside)]
    console.print(_table(f"council {one.council} beside baselines, on the same questions", rows))
    mended, broken = (", ".join(case.question for case in cases) or "none" for cases in (one.mended, one.broken))
    for line in (
        f"mended {len(one.mended)}: {one_line(mended, _LONGEST)}",
        f"broken {len(one.broken)}: {one_line(broken, _LONGEST)}",
        f"left {len(one.left)} wrong, kept {one.kept} right",
        f"rounds {_counts(one.rounds)}; stopped by {_counts(one.stops)}",
        "spoke for the verdict: " + ", ".join(f"{name} {won.spoke:.0%}" for name, won in one.winners.items()),
    ):
        console.print(Text(f"  {clean(line)}"))
    console.print()


def _concerns(one: Comparison, council: str) -> bool:
    """Whether it sets this council beside a baseline that was not made for another council."""
    prefix, _, subject = one.baseline.partition(":")
    fitted = prefix not in ("cot", "single", "best-single")
    return one.system == f"council:{council}" and (not fitted or subject == council)


def _chosen(cells: Sequence[str], places: Sequence[int]) -> list[str]:
    return [cells[at] for at in places]


def _counts(counts: Mapping[int, int] | Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"


def _table(title: str, rows: Sequence[Sequence[str]]) -> Table:
    """The first row is the head."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    for at, heading in enumerate(rows[0]):
        table.add_column(heading, justify="left" if at == 0 else "right", no_wrap=at > 0, overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table
