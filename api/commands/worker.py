"""`eot worker`: a process that works on batches, beside others, on any machine that reaches the Redis."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.options import Config


def worker(
    jobs: Annotated[
        int | None, typer.Option(help="Requests in work at once. [default: [serve] jobs, 16]", min=1, max=64)
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer GET /metrics on this port of 127.0.0.1; 0 for any.", min=0, max=65535)
    ] = None,
    config: Config = None,
) -> None:
    """Work on the batches of a store in Redis ([serve] store = "redis://..."). As many as you like, anywhere.

    SIGTERM lets what is in work end; what is killed is taken over by the others.
    """
    from api.working import work

    work(config, jobs, metrics_port)
