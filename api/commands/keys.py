"""`eot keys`: who may call the service, for what, and how much."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.options import Config, Json

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True, rich_markup_mode=None)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whom or what it is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="chat, batch or admin; may be given several times. [default: chat]")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="[default: no cap]")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="[default: no cap]")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Dollars in all. [default: no cap]")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown this once, and kept nowhere: only its hash is."""
    from api.keying import create_key

    caps = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "max_usd": max_usd,
    }
    create_key(name, scope or ["chat"], caps, config, as_json=as_json)


@app.command("list")
def list_(config: Config = None, as_json: Json = False) -> None:
    """All keys with their caps and what they have spent; never the keys themselves."""
    from api.keying import list_keys

    list_keys(config, as_json=as_json)


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, as `eot keys list` shows it.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Refuse a key from now on; a running server knows within two seconds."""
    from api.keying import revoke_key

    revoke_key(key, config, as_json=as_json)
