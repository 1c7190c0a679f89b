"""`eot config`: what the settings say, and whether they can work."""

from __future__ import annotations

import typer

from api.commands.options import Config, Json

app = typer.Typer(help="Look at the settings.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _config() -> None:
    pass


@app.command("check")
def check(config: Config = None, as_json: Json = False) -> None:
    """Read eot.toml and the EOT_ variables, seat every council, and say what is missing. Asks no model."""
    from api.checking import check_settings

    check_settings(config, as_json=as_json)
