"""`eot worker`: the jobs without the HTTP."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from functools import partial
from pathlib import Path

from api.bare_agents import secrets_of
from api.batching import engine
from api.defaults import with_defaults
from api.logs import configure
from api.metrics_port import metrics_port
from api.service import Service
from eot.errors import SettingsError
from eot.settings import Settings, load

_log = logging.getLogger(__name__)


def work(config: Path | None, at_once: int | None, metrics: int | None) -> None:
    """Work until a signal ends it. `metrics` is the port of loopback on which /metrics is answered; 0: any, None: none.

    Raises:
        SettingsError: the settings are wrong, or name no store that processes can share.
        InputError: the port is taken.
    """
    settings = with_defaults(load(config))
    if settings.serve.store is None:
        raise SettingsError(
            'a worker needs a store that it shares with `eot serve`: [serve] store = "redis://HOST:PORT/0"; '
            "with SQLite, `eot serve` works on its batches itself"
        )
    configure(settings.serve.log, settings.serve.log_level, secrets_of(settings))
    asyncio.run(_work(settings, at_once or settings.serve.jobs or 16, metrics))


async def _work(settings: Settings, at_once: int, metrics: int | None) -> None:
    over = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, over.set)
    service = Service(settings)
    service.jobs = engine(service, at_once)
    try:
        async with metrics_port(metrics, partial(service.observing.metrics.rendered, service.store)) as port:
            if port:
                sys.stderr.write(f"eot worker tells its metrics on http://127.0.0.1:{port}/metrics\n")
            await service.open()
            await service.jobs.start()
            _log.info("this worker has %d requests in work at once", at_once)
            await over.wait()
            _log.info("this worker ends; what is in work may end first")
            service.native.drain()
            await service.jobs.stop(settings.serve.drain_seconds)
    finally:
        await service.close()
