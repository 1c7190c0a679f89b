"""`eot worker`: the jobs without the HTTP, and what it tells of itself."""

import os
import re
import signal
import subprocess
from contextlib import contextmanager

import httpx
import pytest
from command import EOT, environment, eot, scripted
from jobs import PATH, batch_of, ended
from redis_server import RedisServer

from api.store import open_store


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@contextmanager
def worker(folder, url):
    """A worker as a process, with the address of its metrics."""
    words = [str(EOT), "worker", "--jobs", "2", "--metrics-port", "0"]
    told = environment(folder / "home", EOT_SERVE__STORE=url)
    with subprocess.Popen(words, cwd=folder, env=told, stderr=subprocess.PIPE, text=True) as started:
        try:
            for line in started.stderr:
                if found := re.search(r"metrics on (\S+)", line):
                    started.metrics = found.group(1)
                    break
            else:
                raise AssertionError(f"eot worker ended with {started.wait()}")
            yield started
        finally:
            if started.poll() is None:
                os.kill(started.pid, signal.SIGKILL)


def value(text, name):
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)


async def test_a_worker_works_and_tells_what_came_of_it(tmp_path, server):
    scripted(tmp_path, a=["The answer is 7."])
    rows = [
        {
            "custom_id": f"q{k}",
            "url": PATH,
            "body": {"model": "eot/default", "messages": [{"role": "user", "content": t}]},
        }
        for k, t in enumerate(("What is 3 + 4?", "And 4 + 3?", "And 7?"))
    ]
    store = open_store(server.url, tmp_path)
    with worker(tmp_path, server.url) as started:
        row, output, errors = await ended(store, await batch_of(store, rows), seconds=60)
        async with httpx.AsyncClient() as http:
            text = (await http.get(started.metrics)).text
            wrong = [
                (await http.get(started.metrics + "/x")).status_code,
                (await http.post(started.metrics)).status_code,
            ]
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0
    await store.close()
    assert (row.status, len(output), errors) == ("completed", 3, [])
    assert value(text, 'eot_batch_items_total{outcome="completed"}') == 3
    assert value(text, "eot_batch_requests_in_work") == 0
    assert value(text, "eot_batch_items_waiting") == 0
    assert "eot_runs_started_total{" in text
    assert wrong == [404, 405]


def test_a_port_for_metrics_that_is_taken_is_said_in_a_line(tmp_path, server):
    scripted(tmp_path, a=["The answer is 7."])
    refused = eot(tmp_path, "worker", "--metrics-port", str(server.port), EOT_SERVE__STORE=server.url)
    assert refused.returncode == 2
    assert "--metrics-port" in refused.stderr
