"""What `eot ask` does: read the question, seat the council, run it with or without a live view, print the result."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from api.compose import House
from api.defaults import with_defaults
from api.live import LiveView
from api.report import reasoning, report
from api.stocking import bring_for
from eot.errors import QuestionError, SettingsError, UnknownNameError
from eot.events import Watch
from eot.settings import CouncilSettings, Settings, load
from eot.text import fault_in
from eot.types import Question, Result
from topologies import run


@dataclass(frozen=True)
class Asking:
    """A question as it was typed, before anything about it was checked."""

    question: str
    kind: str | None = None
    choices: tuple[str, ...] = ()
    context: str = ""
    run_id: str | None = None
    seed: int = 0


def overridden(config: Path | None, name: str, changes: Mapping[str, Any]) -> tuple[Settings, CouncilSettings]:
    """The settings, and the named council with what the command line changes about it.

    Raises:
        UnknownNameError: there is no such council.
        SettingsError: the file or a change is wrong.
    """
    settings = with_defaults(load(config))
    if name not in settings.councils:
        raise UnknownNameError("council", name, settings.councils)
    council = settings.councils[name].model_dump()
    council |= {key: value for key, value in changes.items() if value is not None}
    try:
        return settings, CouncilSettings(**council)
    except ValidationError as fault:
        raise SettingsError("; ".join(_option(error) for error in fault.errors())) from fault


def _option(error: Any) -> str:
    return f"--{error['loc'][0]}: read {error['input']!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def read_question(asking: Asking) -> Question:
    """Check the question.

    Raises:
        QuestionError: it is empty, too long, not valid text, or a choice is not LETTER=TEXT.
    """
    text = _piped() if asking.question == "-" else asking.question
    choices = dict(_choice(choice) for choice in asking.choices)
    if len(choices) < len(asking.choices):
        raise QuestionError(f"two choices have one letter: {', '.join(asking.choices)}")
    if wrong := fault_in(asking.run_id or ""):
        raise QuestionError(f"--run-id: {wrong}")
    try:
        return Question(text=text.strip(), kind=asking.kind, choices=choices, context=asking.context)
    except ValidationError as fault:
        said = "; ".join(error["msg"].removeprefix("Value error, ") for error in fault.errors())
        raise QuestionError(said) from fault


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as fault:
        raise QuestionError(f"standard input is not UTF-8 text: {fault.reason} at byte {fault.start:,}") from fault


def _choice(typed: str) -> tuple[str, str]:
    letter, equals, text = typed.partition("=")
    if not (equals and letter.strip() and text.strip()):
        raise QuestionError(f"--choice {typed!r}: write it as LETTER=TEXT, such as --choice A=red")
    return letter.strip(), text.strip()


def answer(asking: Asking, seated: tuple[Settings, CouncilSettings], *, full: bool, as_json: bool) -> None:
    """Ask, and print: a live view and a report on a terminal, only the report when piped, or one JSON object."""
    question = read_question(asking)
    bring_for(seated[1], seated[0])
    console = Console(soft_wrap=False)
    if as_json:
        result = asyncio.run(_run(asking, question, seated, None))
        sys.stdout.write(result.model_dump_json() + "\n")
        return
    if console.is_terminal:
        with LiveView(console) as view:
            result = asyncio.run(_run(asking, question, seated, view))
    else:
        result = asyncio.run(_run(asking, question, seated, None))
    if full:
        console.print(reasoning(result))
    console.print(report(result))


async def _run(
    asking: Asking, question: Question, seated: tuple[Settings, CouncilSettings], watch: Watch | None
) -> Result:
    settings, council = seated
    house = House(settings)
    try:
        return await run(
            await house.council(await house.seated(council, question)),
            question,
            run_id=asking.run_id or uuid.uuid4().hex[:12],
            seed=asking.seed,
            watch=watch,
        )
    finally:
        await house.close()
