"""Several processes on one store: any of them shows, follows and stops a run, which outlives the one that has it."""

import asyncio
import os
import signal
import time

import httpx
import pytest
from chat_server import serving as upstream
from redis_server import RedisServer
from serving import process, serving, settings
from test_service_runs import begin, ended, events

AGENTS = {"a": ["I count. The answer is 7."], "slow": ["!hang"]}
COUNCILS = {"default": {"agents": ["a", "slow"], "topology": "memory", "quorum": 1, "stop": [], "rounds": 0}}
QUESTION = {"text": "How many eggs are left?", "kind": "number"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def pair(request, tmp_path_factory):
    """Two services on one store."""
    store = request.getfixturevalue("server").url if request.param == "redis" else None
    serve = {"keep_alive_seconds": 0.3, "store": store}
    wanted = settings(tmp_path_factory.mktemp("home"), agents=AGENTS, councils=COUNCILS, serve=serve)
    with serving(wanted) as one, serving(wanted) as other:
        yield one, other


def test_a_run_is_shown_followed_and_stopped_from_another_process(pair):
    here, there = (served.url for served in pair)
    run = begin(here, QUESTION)
    mine = events(here, run, until="turn_ended")
    theirs = events(there, run, until="turn_ended")
    assert [event for event in mine if event[1] not in ("token", "ping")] == [e for e in theirs if e[1] != "ping"]
    half = theirs[0][0]
    assert events(there, run, after=half, until="turn_ended")[0][0] > half
    assert "ping" in [name for _, name, _ in events(there, run, until="ping")]
    assert httpx.get(f"{there}/v1/runs/{run['id']}").json()["status"] == "running"
    began = time.monotonic()
    stopped = httpx.delete(f"{there}/v1/runs/{run['id']}", timeout=20).json()
    assert time.monotonic() - began < 5
    assert (stopped["status"], stopped["result"]["verdict"]["answer"]) == ("stopped", "7")
    whole = events(here, run)
    assert whole == events(there, run)
    assert (whole[-1][1], whole[-1][2]["status"]) == ("ended", "stopped")
    assert [number for number, *_ in whole] == sorted({number for number, *_ in whole})


def test_who_follows_from_another_process_hears_of_the_end(pair):
    here, there = (served.url for served in pair)
    run = begin(here, QUESTION, council={"agents": ["a"], "rounds": 0})
    told = events(there, run)
    assert [name for _, name, _ in told if name != "ping"][-2:] == ["verdict_reached", "ended"]
    again = begin(here, QUESTION, council={"agents": ["a"], "rounds": 0})
    done = httpx.get(f"{there}/v1/runs/{again['id']}", params={"wait": 20}, timeout=30).json()
    assert done["status"] == "completed"


def test_what_was_a_dead_processes_run_is_closed_to_it(pair):
    """A process that was frozen while another took its run over wakes: it cannot write the run's end any more."""
    here, _ = pair
    run = begin(here.url, QUESTION)
    store = here.service.store

    async def taken():
        await store.running.change(run["id"], lambda now: now.model_copy(update={"holder": "other", "begun": 2}))
        await store.runs.change(run["id"], lambda now: now.model_copy(update={"begun": 2}))

    asyncio.run_coroutine_threadsafe(taken(), here.loop).result(10)
    here.loop.call_soon_threadsafe(here.service.native.live(run["id"]).stop)
    end = time.monotonic() + 10
    while here.service.native.live(run["id"]):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert asyncio.run_coroutine_threadsafe(store.runs.load(run["id"]), here.loop).result(10).status == "running"


def councils_of(url, folder, store):
    lines = ["[councils.default]", 'agents = ["quick", "late"]', "rounds = 0", 'topology = "memory"', "lazy = false"]
    for name in ("quick", "late"):
        lines += [f"[agents.{name}]", f'model = "openai/{name}"', f'base_url = "{url}"', 'api_key = "none"']
    lines += ["[serve]", "keep_alive_seconds = 0.5", *([f'store = "{store}"'] if store else [])]
    (folder / "eot.toml").write_text("\n".join(lines))


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_run_whose_process_was_killed_is_ended_by_one_other(tmp_path, kind, request):
    """Two more processes are there: one of them takes it over, and pays no call that was paid. Numbers go on."""
    store = request.getfixturevalue("server").url[:-1] + "1" if kind == "redis" else None  # apart from the pair
    answers = {"late": None}
    with upstream(lambda number, body: "The answer is 7." if "quick" in str(body) else answers["late"]) as server:
        councils_of(server.url, tmp_path, store)
        with process(tmp_path) as first:
            run = begin(first.url, QUESTION)
            before = events(first.url, run, until="turn_ended")
            assert server.hung.wait(20)
            with process(tmp_path) as second, process(tmp_path) as third:
                os.kill(first.pid, signal.SIGKILL)
                first.wait()
                answers["late"] = "The answer is 8."
                told = [event for event in events(third.url, run, after=before[-1][0]) if event[1] != "ping"]
                done = ended(second.url, run)
    assert done["status"] == "completed"
    assert [thought["recalled"] for thought in done["result"]["exchange"]["rounds"][0]] == [True, False]
    assert sorted(body["model"] for body in server.bodies) == ["late", "late", "quick"]
    assert [name for _, name, _ in told][:1] == ["run_started"]
    assert [name for _, name, _ in told].count("turn_ended") == 2
    assert told[0][0] > before[-1][0]
