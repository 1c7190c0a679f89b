"""`eot worker`: the jobs without the HTTP."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from api.batching import engine
from api.compose import secrets_of
from api.defaults import with_defaults
from api.logs import configure
from api.service import Service
from eot.errors import SettingsError
from eot.settings import Settings, load

_log = logging.getLogger(__name__)


def work(config: Path | None, at_once: int | None) -> None:
    """Work until a signal ends it.

    Raises:
        SettingsError: the settings are wrong, or name no store that processes can share.
    """
    settings = with_defaults(load(config))
    if settings.serve.store is None:
        raise SettingsError(
            'a worker needs a store that it shares with `eot serve`: [serve] store = "redis://HOST:PORT/0"; '
            "with SQLite, `eot serve` works on its batches itself"
        )
    configure(settings.serve.log, settings.serve.log_level, secrets_of(settings))
    asyncio.run(_work(settings, at_once or settings.serve.jobs or 16))


async def _work(settings: Settings, at_once: int) -> None:
    over = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, over.set)
    service = Service(settings)
    service.jobs = engine(service, at_once)
    await service.open()
    await service.jobs.start()
    _log.info("this worker has %d requests in work at once", at_once)
    await over.wait()
    _log.info("this worker ends; what is in work may end first")
    await service.jobs.stop(settings.serve.drain_seconds)
    await service.close()
