"""Agents that are asked no faster than their provider allows, by all processes on one store together."""

import asyncio
import time

import pytest

from agents import Paced, ScriptedAgent
from api.compose import House
from api.store import open_store
from eot.errors import TransientError
from eot.settings import AgentSettings, CouncilSettings, Settings
from eot.types import Message, Prompt, Question
from topologies import run


@pytest.fixture
async def store(tmp_path):
    opened = open_store(None, tmp_path)
    yield opened
    await opened.close()


def prompt(text="x" * 400):
    return Prompt(messages=(Message(role="user", content=text),))


async def test_calls_of_two_processes_wait_for_one_bucket(store, tmp_path):
    other = open_store(None, tmp_path)
    agents = [Paced(ScriptedAgent("a", ["yes"]), at.counters, requests_per_minute=600) for at in (store, other)]
    for agent in agents:
        await agent.buckets.take("agent:a:requests", 299, 600, force=True)
    began = time.monotonic()
    await asyncio.gather(*(agent.ask(prompt()) for agent in agents for _ in range(4)))
    await other.close()
    assert 0.4 <= time.monotonic() - began <= 2  # two were left; the last of eight waits for six more, ten a second


async def test_tokens_that_were_not_used_are_given_back(store):
    agent = Paced(ScriptedAgent("a", ["one two"]), store.counters, tokens_per_minute=1000, max_tokens=800)
    await agent.ask(prompt())
    level = await store.counters.take("agent:a:tokens", 0, 1000)
    assert level.remaining == pytest.approx(997, abs=2)  # one word read, two written


async def test_a_call_that_failed_has_taken_its_place(store):
    agent = Paced(ScriptedAgent("a", ["!fail"]), store.counters, requests_per_minute=10)
    with pytest.raises(TransientError):
        await agent.ask(prompt())
    assert (await store.counters.take("agent:a:requests", 0, 10)).remaining == pytest.approx(9, abs=0.1)


async def test_a_store_that_is_gone_holds_nobody_up(tmp_path, caplog):
    gone = open_store("redis://127.0.0.1:1/0", tmp_path)
    agent = Paced(ScriptedAgent("a", ["yes"]), gone.counters, requests_per_minute=1)
    assert (await agent.ask(prompt())).text == "yes"
    await gone.close()
    assert "pace of a cannot be kept" in caplog.text


async def test_an_agents_pace_is_a_setting(tmp_path):
    agent = AgentSettings(model="scripted", script=["The answer is 7."], requests_per_minute=300)
    house = House(Settings(home=tmp_path, agents={"a": agent, "b": agent}))
    council = await house.council(CouncilSettings(agents=("a", "b"), rounds=0, stop=()))
    await run(council, Question(text="How many?"), run_id="r")
    store = open_store(None, tmp_path)
    left = (await store.counters.take("agent:b:requests", 0, 300)).remaining
    await store.close()
    await house.close()
    assert left == pytest.approx(299, abs=0.9)
