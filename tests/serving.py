"""The service over a real socket: in a thread of the test's process, or as a process of its own."""

import asyncio
import os
import re
import signal
import subprocess
import threading
from contextlib import contextmanager

from command import EOT, environment

from api.defaults import with_defaults
from api.serving import server
from eot.settings import AgentSettings, CouncilSettings, ServeSettings, Settings

WAIT = 20


def settings(home, *, agents=None, councils=None, serve=None, **more):
    """Settings in memory. `agents` maps a name to a script (a list of texts) or to the keys of its table."""
    said = {"a": ["It is 7. The answer is 7."], "b": ["The answer is 7."], "c": ["The answer is 8."]}
    tables = {name: _agent(given) for name, given in (agents or said).items()}
    seated = {name: CouncilSettings(**given) for name, given in (councils or {}).items()}
    table = ServeSettings(**{"port": 0, "drain_seconds": 1} | (serve or {}))
    return with_defaults(Settings(home=home, agents=tables, councils=seated, serve=table, **more), {})


def _agent(given):
    if isinstance(given, dict):
        return AgentSettings(**{"retries": 0} | given)
    return AgentSettings(model="scripted", script=given, retries=0)


class Served:
    """A server in a thread: `url` without a path, `service` for a look inside, `stop()`."""

    def __init__(self, wanted):
        self.server = server(wanted)
        self.service = self.server._service
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        waited = threading.Event()
        for _ in range(WAIT * 100):
            if self.server.started or not self.thread.is_alive():
                break
            waited.wait(0.01)
        assert self.server.started, "the server did not start"
        self.url = f"http://127.0.0.1:{self.server.port}"

    def _run(self):
        self.loop = asyncio.new_event_loop()
        try:
            self.loop.run_until_complete(self.server.serve())
        finally:
            self.loop.close()

    def stop(self):
        self.server.should_exit = True
        self.thread.join(WAIT)
        assert not self.thread.is_alive(), "the server did not stop"


@contextmanager
def serving(wanted):
    """The service with these settings, in a thread."""
    served = Served(wanted)
    try:
        yield served
    finally:
        if served.thread.is_alive():
            served.stop()


@contextmanager
def process(folder, *words, **more):
    """`eot serve` as a process in `folder` (which has an eot.toml): the process, with its `url`."""
    started = subprocess.Popen(
        [str(EOT), "serve", "--port", "0", *words],
        cwd=folder,
        env=environment(folder / "home", **more),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in started.stderr:
            if found := re.search(r"eot serves on (\S+)", line):
                started.url = found.group(1)
                break
        else:
            raise AssertionError(f"eot serve ended with {started.wait()}")
        yield started
    finally:
        if started.poll() is None:
            os.kill(started.pid, signal.SIGKILL)
        started.wait()
        started.stderr.close()
