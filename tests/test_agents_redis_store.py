"""Paid calls in Redis: what one worker paid for, another recalls."""

import asyncio
import time

import pytest
from redis_server import RedisServer

from agents import Memo, ScriptedAgent
from agents.redis_store import RedisCallStore
from agents.store import CallKey
from eot.types import Delta, Message, Prompt, Reply


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def stores(server):
    both = RedisCallStore(server.url), RedisCallStore(server.url)
    yield both
    for store in both:
        store._client.flushall()
        store.close()


def prompt(**fields):
    return Prompt(**{"messages": (Message(role="user", content="What is 2 + 2?"),), "run_id": "r", **fields})


async def test_a_call_that_one_worker_paid_for_another_recalls(stores):
    first = await Memo(ScriptedAgent("a", ["four"]), stores[0]).ask(prompt())
    again = await Memo(ScriptedAgent("a", ["never"]), stores[1]).ask(prompt())
    assert again == first.model_copy(update={"recalled": True})
    other = await Memo(ScriptedAgent("a", ["five"]), stores[1]).ask(prompt(round=1))
    assert (other.text, other.recalled) == ("five", False)


async def test_of_two_workers_that_paid_for_one_call_the_first_reply_stands(stores):
    class Overtaken:
        name = "a"

        async def ask(self, prompt, hear=None):
            await Memo(ScriptedAgent("a", ["first"]), stores[1]).ask(prompt)
            return Reply(text="second")

    heard: list[Delta] = []
    assert (await Memo(Overtaken(), stores[0]).ask(prompt(), heard.append)).text == "first"
    assert heard == [Delta(restart=True), Delta(text="first")]


async def test_a_kept_reply_that_cannot_be_read_is_asked_again(stores):
    await Memo(ScriptedAgent("a", ["four"]), stores[0]).ask(prompt())
    (field,) = stores[0]._client.hkeys("eot:calls:r")
    stores[0]._client.hset("eot:calls:r", field, "{}")
    assert (await Memo(ScriptedAgent("a", ["new"]), stores[0]).ask(prompt())).text == "new"
    assert (await Memo(ScriptedAgent("a", ["never"]), stores[1]).ask(prompt())).text == "new"


async def test_a_redis_that_is_gone_costs_no_reply(caplog):
    store = RedisCallStore("redis://127.0.0.1:1/0", retries=1)
    assert (await Memo(ScriptedAgent("a", ["four"]), store).ask(prompt())).text == "four"
    store.close()
    assert "could not be kept" in caplog.text


async def test_a_reply_waits_for_a_redis_that_restarts(tmp_path):
    with RedisServer(tmp_path) as server:
        store = RedisCallStore(server.url)
        await Memo(ScriptedAgent("a", ["four"]), store).ask(prompt())
        server.kill()
        back = asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(1.5), server.start()))
        await Memo(ScriptedAgent("a", ["five"]), store).ask(prompt(round=1))
        await back
        again = [await Memo(ScriptedAgent("a", ["never"]), store).ask(prompt(round=k)) for k in (0, 1)]
        store.close()
    assert [reply.text for reply in again] == ["four", "five"]


def test_the_first_of_two_puts_stands_unless_it_is_the_one_to_be_replaced(stores):
    key = CallKey("r", "a", 0, "digest")
    assert stores[0].put(key, "one") == "one"
    assert stores[1].put(key, "two") == "one"
    assert stores[1].put(key, "three", instead_of="one") == "three"
    assert stores[0].find(key) == "three"
