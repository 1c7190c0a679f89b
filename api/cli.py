"""`eot`: the command line. Exit codes: 0 done, 1 failed, 2 bad input, 3 no quorum, 4 budget spent."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from api.commands import ask, batch, config, eval, gate, keys, models, serve, vote, worker  # noqa: A004 - the command's name
from eot import __version__
from eot.errors import EotError
from eot.text import clean

app = typer.Typer(
    name="eot",
    help="Several LLMs exchange their reasoning on a question, and the crowd's answer comes out.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 no quorum, 4 budget spent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its panels cost as much time as all the rest of --help
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("ask")(ask.ask)
app.command("vote")(vote.vote)
app.command("eval")(eval.eval_)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.add_typer(batch.app, name="batch")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(gate.app, name="gate")
app.add_typer(config.app, name="config")


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"eot {__version__}")
        raise typer.Exit


@app.callback()
def _eot(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version  # its callback has done the work


def main() -> None:
    """Run the command line; an error of ours becomes one line on stderr and its exit code."""
    try:
        app()
    except EotError as fault:
        typer.secho(f"error: {clean(str(fault))}", fg="red", err=True)  # it may quote a provider, or a file
        sys.exit(fault.exit_code)
    except BrokenPipeError:
        sys.exit(141)
