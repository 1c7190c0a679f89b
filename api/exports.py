"""A conversation as a file. In Markdown, what models and users wrote stands in fences, where nothing of it acts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from api.store import Asked, Conversation
from api.store import Run as RunRow
from eot.types import Result

_FENCES = re.compile(r"~{3,}")


def as_json(row: Conversation, runs: Mapping[str, RunRow]) -> dict[str, Any]:
    """The tree, and every run of it with its request and its whole result."""
    shown = {"id", "created", "ended", "status", "request", "result", "error"}
    return {
        **row.model_dump(mode="json", exclude={"owner"}),
        "object": "conversation.export",
        "runs": {id_: run.model_dump(mode="json", include=shown) for id_, run in runs.items()},
    }


def as_markdown(row: Conversation, runs: Mapping[str, RunRow]) -> str:
    """Every question in the order in which it was asked, and each answer with its vote."""
    lines = ["# Conversation", "", _fenced(row.title)]
    for asked in row.asked:
        lines += ["", *_question(asked)]
        for run_id in asked.runs:
            lines += ["", f"### Run {run_id}", "", *_answer(runs.get(run_id))]
    return "\n".join(lines) + "\n"


def _question(asked: Asked) -> Iterator[str]:
    yield "## Question"
    if asked.parent:
        yield f"\nfollows the answer of run {asked.parent}"
    yield ""
    yield _fenced(str(asked.question.get("text", "")))
    for letter, text in dict(asked.question.get("choices") or {}).items():
        yield _fenced(f"{letter}: {text}")


def _answer(run: RunRow | None) -> Iterator[str]:
    if run is None or run.result is None:
        yield f"No answer: the run {'is no longer kept' if run is None else 'was ' + run.status}."
        return
    result = Result.model_validate(dict(run.result))
    verdict, exchange = result.verdict, result.exchange
    yield _fenced(verdict.text)
    yield f"\nTopology {exchange.topology}, {len(exchange.rounds) - 1} rounds of exchange; {verdict.how}.\n"
    for support in verdict.supports:
        yield _fenced(f"{support.share:.0%}  {support.answer}  ({', '.join(support.agents)})")


def _fenced(text: str) -> str:
    """The text in a fence longer than any within it."""
    longest = max((len(found) for found in _FENCES.findall(text)), default=2)
    fence = "~" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"
