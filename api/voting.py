"""What `eot vote` does: a verdict for each row of a file, and how often it is right where the file says what is."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.compose import embedder
from api.report import one_line
from eot.errors import NoQuorumError
from eot.settings import load
from eot.types import Verdict
from scoring import AnswerRow, Embed, read_answers, same, vote

Row = tuple[AnswerRow, Verdict]


def vote_on_file(file: Path, *, method: str, wsdm: bool, config: Path | None, as_json: bool) -> None:
    """Vote on every row; one JSON object a row, or a table.

    Raises:
        AnswersError: a row cannot be read; names file and line.
        UnknownNameError: there is no such method.
        MissingExtraError: an embedding vote without what embeds.
    """
    embed = embedder(load(config), method)
    rows = ((row, _verdict(row, method, embed, wsdm=wsdm)) for row in read_answers(file))
    if as_json:
        for row, verdict in rows:
            found = {"id": row.id or str(row.line), "gold": row.gold, "verdict": verdict.model_dump(mode="json")}
            sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        _print(rows)


def _verdict(row: AnswerRow, method: str, embed: Embed | None, *, wsdm: bool) -> Verdict:
    """The row's verdict; a row in which nobody says anything has none, and does not cost the others theirs."""
    try:
        return vote(row.ballots, method=method, kind=row.kind, embed=embed, wsdm=wsdm)
    except NoQuorumError:
        voters = tuple(ballot.voter for ballot in row.ballots)
        return Verdict(answer=None, text="", agent="", how="nobody said anything", support=0.0, abstained=voters)


def _print(rows: Iterator[Row]) -> None:
    console = Console()
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("question", "verdict", "support", "how", "gold"):
        table.add_column(heading)
    right: Counter[bool] = Counter()
    for row, verdict in rows:
        correct = row.gold is not None and verdict.answer is not None and same(verdict.answer, row.gold, row.kind)
        if row.gold is not None:
            right[correct] += 1
        table.add_row(*_cells(row, verdict, correct=correct))
    console.print(table)
    if total := right.total():
        console.print(f"right: {right[True]} of {total} ({right[True] / total:.1%})", highlight=False)


def _cells(row: AnswerRow, verdict: Verdict, *, correct: bool) -> tuple[Text, ...]:
    style = "" if row.gold is None else "green" if correct else "red"
    return (
        Text(one_line(row.question or row.id or f"line {row.line}", 40)),
        Text(one_line(verdict.answer or verdict.text or "none", 30), style=style),
        Text(f"{verdict.support:.0%}"),
        Text(verdict.how, style="dim"),
        Text(one_line(row.gold or "", 20)),
    )
