"""Batch jobs: every custom_id gets one line, whatever happens to whoever works on it."""

import asyncio
import json
import sqlite3
import time
from collections import Counter

import pytest
import redis.asyncio
import redis.exceptions
from jobs import PATH, batch_of, ended, endpoint, lines, met, until, working
from redis_server import RedisServer

from api.http.errors import ApiError
from api.jobs import answering
from api.jobs.engine import Engine
from api.store import Counts, Estimate, Leadership, open_store
from eot.errors import NoQuorumError


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["sqlite", "redis"])
async def place(request, tmp_path):
    """A store, and the address of its queue."""
    url = request.getfixturevalue("server").url if request.param == "redis" else None
    if url:
        client = redis.asyncio.from_url(url)
        await client.flushall()
        await client.aclose()
    store = open_store(url, tmp_path)
    yield store, url
    await store.close()


async def echo(body, run_id):
    return {"said": body["n"], "run": run_id, "eot": {"usage": {"calls": 3, "input_tokens": 5, "cost_usd": 0.5}}}


async def test_a_batch_is_validated_answered_and_ended(place):
    store, url = place
    async with working(store, echo, url=url):
        batch = await batch_of(store, lines(50))
        row, output, errors = await ended(store, batch)
    assert (row.status, errors) == ("completed", [])
    assert [line["custom_id"] for line in output] == [f"q{k}" for k in range(50)]
    assert output[7]["response"]["status_code"] == 200
    assert output[7]["response"]["body"]["said"] == 7
    assert output[7]["response"]["body"]["run"] == f"batch:{batch}:8"
    assert output[7]["error"] is None
    assert len({line["id"] for line in output}) == 50
    assert list(row.at) == ["in_progress", "finalizing", "completed"]
    assert row.counts == Counts(total=50, completed=50, calls=150, input_tokens=250, usd=25)
    assert await store.batches.active() == []
    assert await store.items.counts(batch) == Counts()


async def test_what_fails_is_told_in_the_error_file(place):
    store, url = place

    async def answer(body, run_id):
        match body["n"]:
            case 1:
                raise ApiError(400, "no such thing", code="odd")
            case 2:
                raise ZeroDivisionError("secret")
        return {}

    async with working(store, answer, url=url):
        row, output, errors = await ended(store, await batch_of(store, lines(4)))
    assert row.status == "completed"
    assert [line["custom_id"] for line in output] == ["q0", "q3"]
    assert [(line["custom_id"], line["response"]["status_code"]) for line in errors] == [("q1", 400), ("q2", 500)]
    assert errors[0]["response"]["body"]["error"]["code"] == "odd"
    assert "secret" not in json.dumps(errors)
    assert (row.counts.completed, row.counts.failed) == (2, 2)


async def test_a_file_with_a_fault_is_refused_before_anything_is_asked(place):
    store, url = place
    asked = []

    async def answer(body, run_id):
        asked.append(body)
        return {}

    rows = [
        *lines(300),
        {"custom_id": "q5", "url": PATH, "body": {}},
        {"custom_id": "new", "url": "/v1/other", "body": {}},
    ]
    async with working(store, answer, url=url):
        row, output, errors = await ended(store, await batch_of(store, rows))
        other, *_ = await ended(store, await batch_of(store, b"\n\n"))
        gone = await batch_of(store, lines(1))
        await store.files.delete((await store.batches.load(gone)).input_file_id)
        lost, *_ = await ended(store, gone)
    assert (row.status, output, errors, asked) == ("failed", [], [], [])
    assert [(fault.line, fault.code) for fault in row.errors] == [
        (301, "duplicate_custom_id"),
        (302, "mismatched_endpoint"),
    ]
    assert [fault.code for fault in other.errors] == ["empty_file"]
    assert [fault.code for fault in lost.errors] in (["file_not_found"], [])


async def test_a_cancelled_batch_keeps_what_was_answered_and_says_so_of_the_rest(place):
    store, url = place
    hanging, stopped = [], []

    async def answer(body, run_id):
        if body["n"] < 3:
            return {}
        hanging.append(body["n"])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(body["n"])
            raise

    async with working(store, answer, url=url, at_once=6):
        batch = await batch_of(store, lines(40))
        await met(lambda: len(hanging) == 6)
        await store.batches.change(batch, lambda row: row.entered("cancelling"))
        row, output, errors = await ended(store, batch)
        await met(lambda: len(stopped) == 6)
    assert row.status == "cancelled"
    assert [line["custom_id"] for line in output] == ["q0", "q1", "q2"]
    assert [line["custom_id"] for line in errors] == [f"q{k}" for k in range(3, 40)]
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert set(row.at) == {"in_progress", "cancelling", "cancelled"}


async def test_a_batch_past_its_time_expires(place):
    store, url = place

    async def answer(body, run_id):
        if body["n"]:
            await asyncio.Event().wait()
        return {}

    async with working(store, answer, url=url):
        row, output, errors = await ended(store, await batch_of(store, lines(5), expires=time.time() + 1.5))
    assert row.status == "expired"
    assert [line["custom_id"] for line in output] == ["q0"]
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert len(errors) == 4


async def test_a_passing_failure_is_tried_again(place, monkeypatch):
    monkeypatch.setattr(answering, "_WAITS", (0.01, 0.01))
    store, url = place
    tries = Counter()

    async def answer(body, run_id):
        tries[body["n"]] += 1
        if tries[body["n"]] <= body["n"]:
            raise NoQuorumError("nobody there")
        return {}

    async with working(store, answer, url=url):
        _, output, errors = await ended(store, await batch_of(store, lines(5)))
    assert [line["custom_id"] for line in output] == ["q0", "q1", "q2"]
    assert [line["response"]["status_code"] for line in errors] == [502, 502]
    assert tries == {0: 1, 1: 2, 2: 3, 3: 3, 4: 3}


async def test_a_store_that_fails_in_the_middle_of_an_item_costs_no_item(place):
    store, url = place
    asked = Counter()

    async def answer(body, run_id):
        asked[body["n"]] += 1
        if asked[body["n"]] == 1 and body["n"] % 2:
            raise redis.exceptions.ConnectionError if url else sqlite3.OperationalError("disk full")
        return {}

    async with working(store, answer, url=url):
        _, output, errors = await ended(store, await batch_of(store, lines(6)))
    assert (len(output), errors) == (6, [])
    assert asked == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 2}


async def test_a_cap_on_calls_is_never_passed(place):
    store, url = place
    reckoned = Estimate(calls_least=2, calls_most=4)

    async def answer(body, run_id):
        await asyncio.sleep(0.01)
        return {"eot": {"usage": {"calls": 3}}}

    async with working(store, answer, url=url, reckoned=reckoned):
        row, output, errors = await ended(store, await batch_of(store, lines(30), max_calls=61))
    assert row.status == "completed"
    assert row.counts.calls == 3 * len(output)
    assert 58 - 3 <= row.counts.calls <= 61
    assert {line["response"]["body"]["error"]["code"] for line in errors} == {"budget_spent"}
    assert len(output) + len(errors) == 30


async def test_a_cap_on_dollars_ends_the_asking(place):
    store, url = place
    async with working(store, echo, url=url, at_once=2):
        row, output, errors = await ended(store, await batch_of(store, lines(30), max_usd=5.0))
        unknown = Estimate(calls_least=1, calls_most=1, usd_most=None)
    async with working(store, echo, url=url, reckoned=unknown):
        blind, *_ = await ended(store, await batch_of(store, lines(2), max_usd=5.0))
    assert 10 <= len(output) <= 12  # what was in work when the cap was reached is paid too
    assert len(output) + len(errors) == 30
    assert row.counts.usd == 0.5 * len(output)
    assert [fault.code for fault in blind.errors] == ["unknown_price"]


async def test_what_one_engine_left_the_next_one_ends(place):
    store, url = place
    asked = Counter()

    async def answer(body, run_id):
        asked[body["n"]] += 1
        if body["n"] >= 20:
            await asyncio.Event().wait()
        return {}

    async def quick(body, run_id):
        asked[body["n"]] += 1
        return {}

    async with working(store, answer, url=url):
        batch = await batch_of(store, lines(60))
        await met(lambda: sum(k >= 20 for k in asked) == 16)
    async with working(store, quick, url=url):
        row, output, errors = await ended(store, batch)
    assert (row.status, len(output), errors) == ("completed", 60, [])
    assert max(asked[k] for k in range(20)) == 1
    assert max(asked.values()) == 2  # what was in work when the first one stopped


async def test_owners_take_turns(place):
    store, url = place
    order = []

    async def answer(body, run_id):
        order.append(body["who"])
        await asyncio.sleep(0.01)
        return {}

    async with working(store, answer, url=url, at_once=4) as engine:
        first = [await batch_of(store, lines(100, who="a"), owner="a") for _ in range(3)]
        await met(lambda: len(order) >= 20)
        begun = len(order)
        late = await batch_of(store, lines(40, who="b"), owner="b")
        await engine.queue("validate", late)
        await until(store, late, "completed")
        meanwhile = Counter(order[begun:])
        for batch in first:
            await until(store, batch, "completed")
    assert meanwhile["b"] == 40
    assert meanwhile["a"] <= 80  # an even share, and what was queued before b was validated


async def test_an_item_is_in_work_once_however_often_it_is_queued(place):
    store, url = place
    asked = Counter()

    async def answer(body, run_id):
        asked[body["n"]] += 1
        await asyncio.sleep(2.5)  # longer than two sweeps
        return {}

    async with working(store, answer, url=url) as engine:
        batch = await batch_of(store, lines(8))
        await until(store, batch, "in_progress")
        for _ in range(3):
            for line in range(1, 9):
                await engine.queue("item", batch, line)
        row, *_ = await ended(store, batch)
    assert row.counts.completed == 8
    assert set(asked.values()) == {1}


async def test_a_worker_that_dies_right_after_a_commit_leaves_no_booking_behind(place):
    """The outcome is in the store, and nothing that the worker would have done next was done."""
    store, url = place
    reckoned = Estimate(calls_least=1, calls_most=2)

    async def answer(body, run_id):
        return {"eot": {"usage": {"calls": 1}}}

    async def nowhere(task, batch, line=0):
        """The queue of a worker that dies."""

    batch = await batch_of(store, lines(2), max_calls=3)
    dying = Engine(store, endpoint(answer, reckoned=reckoned), url=url).work
    dying.queue = nowhere
    await dying.validate(batch)
    row, item = await store.batches.load(batch), await store.items.load(batch, 1)
    await store.items.finish(batch, await dying.answering.outcome(row, item))
    async with working(store, answer, url=url, reckoned=reckoned):
        row, output, errors = await ended(store, batch, seconds=15)
    assert (row.status, len(output), errors, row.counts.calls) == ("completed", 2, [], 2)


async def test_of_two_processes_on_one_home_one_works_on_a_batch_and_the_other_follows_it(tmp_path):
    """Each has a queue of its own: both at work would ask, and pay, twice."""
    asked, stores = Counter(), [open_store(None, tmp_path) for _ in range(2)]

    def answering_as(who):
        async def answer(body, run_id):
            asked[who, body["n"]] += 1
            await asyncio.sleep(0.05)
            return {}

        return answer

    async with working(stores[1], answering_as("second"), at_once=4):
        async with working(stores[0], answering_as("first"), at_once=4):
            batch = await batch_of(stores[0], lines(200))
            await met(lambda: asked.total() > 60)
            workers = {who for who, _ in asked}
        row, output, errors = await ended(stores[1], batch)
    assert len(workers) == 1
    assert (row.status, len(output), errors) == ("completed", 200, [])
    if workers == {"first"}:  # what it had in work when it stopped is asked again
        assert {who for who, _ in asked} == {"first", "second"}
    assert max(Counter(n for _, n in asked.elements()).values()) <= 2
    assert asked.total() <= 204
    for store in stores:
        await store.close()


async def test_a_process_that_does_not_beat_any_more_loses_the_sweep(place):
    store, _ = place
    first, second = (Leadership(store.documents, "sweep", 3) for _ in range(2))
    assert await first.look()
    for _ in range(3):
        assert not await second.look()
        assert await first.look()
    assert [await second.look() for _ in range(4)] == [False, False, False, True]
    assert not await first.look()
    await second.leave()
    assert await first.look()


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_jumps_stops_no_batch(place, monkeypatch, hours):
    store, url = place
    real = time.time
    async with working(store, echo, url=url):
        await ended(store, await batch_of(store, lines(3)))
        monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
        row, output, errors = await ended(store, await batch_of(store, lines(3)))
    assert (row.status, len(output), errors) == ("completed", 3, [])


async def test_an_item_on_its_way_when_the_engine_stops_is_not_asked(place, monkeypatch):
    store, url = place
    on_its_way, go_on, asked = asyncio.Event(), asyncio.Event(), []
    load = store.items.load

    async def slow(*which):
        item = await load(*which)
        on_its_way.set()
        await go_on.wait()
        return item

    async def never(body, run_id):
        asked.append(run_id)
        await asyncio.Event().wait()

    monkeypatch.setattr(store.items, "load", slow)
    engine = Engine(store, endpoint(never), url=url, at_once=1)
    await engine.start()
    await batch_of(store, lines(1))
    await asyncio.wait_for(on_its_way.wait(), 20)
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0.2)
    go_on.set()
    await asyncio.wait_for(stopping, 10)
    assert asked == []
