"""An answer of Redis that is lost on its way: the client sends its write again, and it is done once all the same."""

import asyncio
import time

import pytest
import redis.asyncio
from jobs import batch_of, content, ended, lines, met, working
from lossy import lossy
from redis_server import RedisServer

from agents.redis_store import RedisCallStore
from agents.store import CallKey
from api.store import Answer, Counts, File, Item, Key, Outcome, open_store
from eot.types import Usage


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def place(server, tmp_path):
    """A store, and the way to it on which answers can be lost."""
    client = redis.asyncio.from_url(server.url)
    await client.flushall()
    await client.aclose()
    async with lossy(server.port) as way:
        store = open_store(way.url, tmp_path)
        yield store, way
        await store.close()


async def chunks(way, *parts):
    for part in parts:
        way.lose()
        yield part


async def test_a_change_is_known_as_ones_own(place):
    store, way = place
    await store.keys.save(Key(id="k", name="n", hash="h", requests_per_minute=0))
    tries = []

    def more(key):
        tries.append(key)
        return key.model_copy(update={"requests_per_minute": key.requests_per_minute + 1})

    way.lose(2)
    assert (await store.keys.change("k", more)).requests_per_minute == 1
    assert (way.lost, len(tries)) == (2, 1)
    assert (await store.keys.load("k")).requests_per_minute == 1


async def test_who_saves_a_new_row_is_told_that_it_was_new(place):
    store, way = place
    way.lose()
    assert await store.answers.save_new(Answer(id="once", body_hash="1"), time.time() + 60) is None
    assert way.lost == 1
    assert (await store.answers.save_new(Answer(id="once", body_hash="2"))).body_hash == "1"


async def test_a_late_repeat_does_not_bring_an_old_row_back(place):
    store, way = place
    way.lose()
    saving = asyncio.create_task(store.keys.save(Key(id="k", name="old", hash="h")))
    await met(lambda: way.lost)
    other = open_store(f"redis://127.0.0.1:{way._port}/0", None)
    await other.keys.save(Key(id="k", name="new", hash="h"))
    await saving
    await other.close()
    assert (await store.keys.load("k")).name == "new"


async def test_who_deletes_a_row_is_told_that_it_was_there(place):
    store, way = place
    await store.keys.save(Key(id="k", name="n", hash="h"))
    way.lose()
    assert await store.keys.delete("k")
    assert way.lost == 1
    assert not await store.keys.delete("k")
    assert await store.keys.page("") == []


async def test_a_bucket_and_a_total_are_charged_once(place):
    store, way = place
    way.lose()
    assert (await store.counters.take("k", 10, 100)).remaining == pytest.approx(90, abs=1)
    assert way.lost == 1
    assert (await store.counters.take("k", 0, 100)).remaining == pytest.approx(90, abs=1)
    way.lose(2)
    assert await store.counters.add("usd", 0.25) == 0.25
    assert way.lost == 2
    assert await store.counters.total("usd") == 0.25


async def test_a_files_bytes_are_there_once(place):
    store, way = place
    written = File(id="f", filename="a", purpose="batch")
    file = await store.files.write(written, chunks(way, b"one ", b"two ", b"three"))
    assert file.size == 13
    assert b"".join([part async for part in store.files.read("f")]) == b"one two three"
    way.lose()
    assert (await store.files.write(written, chunks(way))).size == 0
    assert [part async for part in store.files.read("f")] == []


async def test_an_outcome_is_committed_once_and_known_as_ones_own(place):
    store, way = place
    for line in (1, 2, 3):
        await store.items.add("b", [Item(line=line, custom_id=f"q{line}", request="{}")])
    assert await store.items.book("b", 1, 5, 10)
    way.lose()
    outcome = Outcome(line=1, ok=True, body="{}", usage=Usage(calls=3))
    finished = await store.items.finish("b", outcome, 2)
    assert way.lost == 1
    assert (finished.won, finished.next_line, finished.left) == (True, 3, 2)
    assert await store.items.counts("b") == Counts(total=3, completed=1, calls=3)
    assert await store.items.book("b", 2, 7, 10)
    assert not (await store.items.finish("b", outcome, 2)).won
    way.lose()
    assert await store.items.finish_rest("b", False, "late", 10) == 2
    assert await store.items.counts("b") == Counts(total=3, completed=1, failed=2, calls=3)


async def test_items_are_added_once(place):
    store, way = place
    way.lose()
    assert await store.items.add("b", [Item(line=1, custom_id="q", request="{}")]) == []
    assert way.lost == 1
    assert await store.items.counts("b") == Counts(total=1)


async def test_a_paid_call_is_kept_once(place):
    _, way = place
    calls, key = RedisCallStore(way.url), CallKey("r", "a", 0, "digest")
    await asyncio.to_thread(calls.put, key, "one")
    way.lose()
    assert await asyncio.to_thread(calls.put, key, "two", "one") == "two"
    assert way.lost == 1
    calls.close()


async def test_a_batch_that_ends_keeps_its_files_whichever_answer_is_lost(place):
    """Of each write, whichever it is, the first answer is lost."""
    store, way = place

    async def answer(body, run_id):
        return {"n": body["n"]}

    async with working(store, answer):  # a queue of its own: only the store's answers are lost
        way.each = True
        row, output, errors = await ended(store, await batch_of(store, lines(6)))
        way.each = False
    assert way.lost > 20
    assert (row.status, errors, row.counts.completed) == ("completed", [], 6)
    assert sorted(line["custom_id"] for line in output) == [f"q{k}" for k in range(6)]
    assert await content(store, row.output_file_id) == output
