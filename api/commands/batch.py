"""`eot batch`: a file of questions or requests, every one answered once, here or by a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.commands.options import Config, Json

app = typer.Typer(help="Batches: run, status, cancel.", no_args_is_help=True, rich_markup_mode=None)

Server = Annotated[
    str | None,
    typer.Option(envvar="EOT_SERVER", help="A server's address, such as http://127.0.0.1:8000. [default: here]"),
]
ApiKey = Annotated[
    str | None, typer.Option("--key", envvar="EOT_API_KEY", help="The server's key.", show_default=False)
]


@app.command("run")
def run(
    questions: Annotated[
        Path, typer.Argument(help='JSON lines: {"id", "text", "kind", "choices"}, or OpenAI batch lines.')
    ],
    council: Annotated[str, typer.Option(help="Who answers questions; OpenAI lines name their own model.")] = "default",
    out: Annotated[Path | None, typer.Option(help="Answers go here. [default: QUESTIONS.answers.jsonl]")] = None,
    max_calls: Annotated[int | None, typer.Option(help="Cap on calls of the whole batch.", min=1)] = None,
    max_usd: Annotated[float | None, typer.Option(help="Cap on US dollars of the whole batch.")] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what it would take, and ask nobody.")] = False,
    at_once: Annotated[int, typer.Option(help="Requests in work at once, when it runs here.", min=1, max=64)] = 8,
    server: Server = None,
    key: ApiKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Answer every line of QUESTIONS. Stopped or killed, the same command goes on where it was.

    eot batch run questions.jsonl --council default --max-usd 2
    """
    from api.batch_command import Wanted, run_batch

    wanted = Wanted(
        file=questions,
        council=council,
        out=out or questions.with_suffix(".answers.jsonl"),
        caps={"max_calls": max_calls, "max_usd": max_usd},
        at_once=at_once,
        server=server,
        key=key,
        config=config,
    )
    run_batch(wanted, estimate=estimate, as_json=as_json)


@app.command("status")
def status(
    batch: Annotated[str | None, typer.Argument(help="A batch's id. [default: all of them]")] = None,
    server: Server = None,
    key: ApiKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """How far batches are: those that ran here, or a server's."""
    from api.batch_command import show_status

    show_status(batch, server, key, config, as_json=as_json)


@app.command("cancel")
def cancel(
    batch: Annotated[str, typer.Argument(help="A batch's id.")],
    server: Server = None,
    key: ApiKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Stop a batch. What was answered by then is kept."""
    from api.batch_command import cancel_batch

    cancel_batch(batch, server, key, config, as_json=as_json)
