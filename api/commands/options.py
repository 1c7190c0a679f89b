"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="EOT_CONFIG", help="Your settings. [default: ./eot.toml, if there is one]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]

Out = Annotated[Path | None, typer.Option(help="A new folder for the model.")]
Name = Annotated[str | None, typer.Option(help="Keep it in the home under this name: local/NAME.")]
Progress = Annotated[Path | None, typer.Option(hidden=True, help="Append progress to this file, as JSON lines.")]


def names(typed: str | None) -> list[str] | None:
    """A list as it is typed, `a,b,c`; None where nothing was."""
    return None if typed is None else [name for name in map(str.strip, typed.split(",")) if name]
