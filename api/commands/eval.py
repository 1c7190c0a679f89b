"""`eot eval`: how often a crowd is right, beside plainer ways to the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.commands.options import Config, Json


def eval_(
    questions: Annotated[
        Path | None, typer.Argument(help='Labelled questions, JSONL or CSV: {"id", "text", "kind", "answer"}.')
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Vote on answers recorded in this file, and ask no model.", metavar="FILE")
    ] = None,
    models: Annotated[str | None, typer.Option(help="With --replay: only these voters, strongest first: a,b,c")] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="With --replay: compare by sentence embeddings too. Slow.")
    ] = False,
    learn_weights: Annotated[
        Path | None, typer.Option(help="Write what each agent's ballot should count, as TOML.", metavar="FILE")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the intervals' resampling.")] = 0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say how often the crowd is right, with 95 % intervals.

    With --replay, on answers from anywhere: each voter alone beside every vote. Rows without a gold answer take it
    from QUESTIONS, by id or by text.
    """
    from api.replaying import Replaying, replay_file
    from eot.errors import InputError

    if replay is None:
        raise InputError("say which recorded answers to vote on: eot eval --replay answers.jsonl")
    asked = Replaying(
        file=replay,
        questions=questions,
        voters=tuple(models.split(",")) if models else (),
        embed=embed,
        learn_weights=learn_weights,
        seed=seed,
    )
    replay_file(asked, config, as_json=as_json)
