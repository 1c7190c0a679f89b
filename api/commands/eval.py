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
    councils: Annotated[str, typer.Option(help="Councils of eot.toml to compare: a,b")] = "default",
    baselines: Annotated[
        str, typer.Option(help="What they are compared with, of these; round0 always takes part.")
    ] = "cot,sc,sc-tokens,self-moa,moa,best-single",
    out: Annotated[
        Path, typer.Option(help="Results and report go here; the same folder again goes on where it was.")
    ] = Path("eot-eval"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Questions in work at the same time.")] = 8,
    max_calls: Annotated[int | None, typer.Option(help="Cap on new calls; what is recalled is free.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Cap on new tokens, read and written.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Cap on new US dollars.")] = None,
    models: Annotated[str | None, typer.Option(help="With --replay: only these voters, strongest first: a,b,c")] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="With --replay: compare by sentence embeddings too. Slow.")
    ] = False,
    learn_weights: Annotated[
        Path | None,
        typer.Option(help="Write each agent's weight, and live each council's gate, as TOML.", metavar="FILE"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples; with --replay of the intervals.")] = 0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compare councils with baselines at equal budget on QUESTIONS; write tables, plots and a page.

    Every answer is kept: a run that was stopped, capped, or is given one more baseline asks only for what is missing.

    eot eval questions.jsonl --councils default --baselines cot,sc --limit 50

    With --replay, on answers from anywhere: each voter alone beside every vote. Rows without a gold answer take it
    from QUESTIONS, by id or by text.
    """
    if replay is None:
        from api.evaluating import Evaluating, evaluate_file

        live = Evaluating(
            questions=questions,
            out=out,
            councils=_names(councils),
            baselines=_names(baselines),
            caps={"calls": max_calls, "tokens": max_tokens, "usd": max_usd},
            limit=limit,
            seed=seed,
            at_once=at_once,
            learn_weights=learn_weights,
        )
        evaluate_file(live, config, as_json=as_json)
        return
    from api.replaying import Replaying, replay_file

    asked = Replaying(
        file=replay,
        questions=questions,
        voters=tuple(models.split(",")) if models else (),
        embed=embed,
        learn_weights=learn_weights,
        seed=seed,
    )
    replay_file(asked, config, as_json=as_json)


def _names(said: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in said.split(",") if name.strip()))
