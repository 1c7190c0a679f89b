"""`eot serve`: the HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.options import Config


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 for whichever is free. [default: 8000]", min=0, max=65535)
    ] = None,
    config: Config = None,
) -> None:
    """Serve councils over HTTP: OpenAI's surfaces, and eot's own.

    A council is a model name (eot/default), an agent is another (agent/NAME).
    """
    from api.serving import serve as run

    run(config, {"host": host, "port": port})
