"""`eot serve`: the process around the service, and how it goes."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn

from api.bare_agents import prepare, secrets_of
from api.defaults import with_defaults
from api.http.app import create_app
from api.keying import with_keys
from api.keys import Keyring, is_loopback
from api.logs import configure
from api.service import Service
from eot.errors import InputError, UnknownNameError
from eot.settings import ServeSettings, Settings, load

_log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Uvicorn that drains before it closes its doors.

    After SIGTERM it still listens, tells balancers at `/health/ready` that it goes, refuses new runs with 503, and
    waits up to `drain_seconds` for those in flight. A second signal ends the waiting.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @property
    def port(self) -> int:
        """The port that it really listens on."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        sys.stderr.write(f"eot serves on http://{host}:{self.port}\n")
        sys.stderr.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.drain()
        try:
            async with asyncio.timeout(self._service.settings.serve.drain_seconds):
                while self._service.in_flight and not self.force_exit:  # noqa: ASYNC110 - a signal handler sets it
                    await asyncio.sleep(0.05)
        except TimeoutError:
            _log.warning("%d runs did not end in time and are stopped", self._service.in_flight)
        await super().shutdown(sockets)


def server(settings: Settings) -> DrainingServer:
    """A server that is ready to run, from settings that name every agent.

    Raises:
        UnknownNameError: the agent for tasks is none of them.
    """
    if (name := settings.serve.task_agent) and name not in settings.agents:
        raise UnknownNameError("agent", name, settings.agents)
    service = Service(settings)
    config = uvicorn.Config(
        create_app(service),
        host=settings.serve.host,
        port=settings.serve.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return DrainingServer(config, service)


def serve(config: Path | None, changes: Mapping[str, Any]) -> None:
    """Serve until a signal ends it. `changes` are keys of `[serve]` that the command line names.

    Raises:
        SettingsError: the file is wrong.
        InputError: the address cannot be listened on, or needs a key to exist; or the store does not answer.
    """
    settings = with_defaults(load(config))
    given = {key: value for key, value in changes.items() if value is not None}
    table = ServeSettings(**(settings.serve.model_dump() | given))
    configure(table.log, table.log_level, secrets_of(settings))
    settings = settings.model_copy(update={"serve": table})
    _refuse_open_doors(settings)
    prepare(settings)
    with _listening(table.host, table.port) as listener:
        serving = server(settings)
        gc.collect()
        gc.freeze()  # hundreds of thousands of objects that stay: to look through them again holds all up for 0.1 s
        serving.run([listener])


def _refuse_open_doors(settings: Settings) -> None:
    """Without a key anyone could spend the operator's money: then nobody but this machine may reach the server."""
    host, any_key = settings.serve.host, with_keys(settings, Keyring.exist)
    if not is_loopback(host) and not any_key:
        raise InputError(
            f"no key exists, and {host} can be reached from elsewhere: make one with `eot keys create NAME`, "
            "or listen on 127.0.0.1"
        )


def _listening(host: str, port: int) -> socket.socket:
    """Bound here and not by uvicorn, which would end the process without a word of ours."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as fault:
        raise InputError(f"cannot listen on {host} port {port}: {fault.strerror or fault}; name another") from fault
