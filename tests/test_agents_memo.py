"""Paid calls are kept: what the file holds, who may read it, and what survives kill -9."""

import asyncio
import json
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agents import Budget, Budgeted, CallStore, Memo, Metered, ScriptedAgent
from agents.store import CallKey
from eot.errors import BudgetSpentError, InputError, TransientError
from eot.settings import BudgetSettings
from eot.types import Delta, Message, Prompt, Reply

ROOT = Path(__file__).parents[1]


def prompt(text="What is 2 + 2?", **fields):
    return Prompt(**{"messages": (Message(role="user", content=text),), "run_id": "run-1", **fields})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept" / "calls.sqlite"


@pytest.fixture
def store(path):
    store = CallStore(path)
    yield store
    store.close()


def counting(text="four"):
    asked: list[Prompt] = []

    def line(got):
        asked.append(got)
        return f"{text} {len(asked)}"

    return ScriptedAgent("a", [line]), asked


async def test_a_call_is_paid_once_and_recalled_with_its_usage(store):
    agent, asked = counting()
    first = await Memo(agent, store).ask(prompt())
    heard: list[Delta] = []
    again = await Memo(agent, store).ask(prompt(), heard.append)
    assert len(asked) == 1
    assert again == first.model_copy(update={"recalled": True})
    assert (first.recalled, heard) == (False, [Delta(text="four 1")])


@pytest.mark.parametrize(
    "other",
    [
        {"run_id": "run-2"},
        {"round": 1},
        {"seed": 5},
        {"messages": (Message(role="user", content="What is 3 + 3?"),)},
        {"messages": (Message(role="system", content="What is 2 + 2?"),)},
    ],
)
async def test_another_run_round_seed_or_prompt_is_another_call(store, other):
    agent, asked = counting()
    await Memo(agent, store).ask(prompt())
    await Memo(agent, store).ask(prompt(**other))
    assert len(asked) == 2


async def test_another_model_or_agent_is_another_call(store):
    agent, asked = counting()
    await Memo(agent, store, "model-1").ask(prompt())
    await Memo(agent, store, "model-2").ask(prompt())
    await Memo(ScriptedAgent("b", ["mine"]), store, "model-1").ask(prompt())
    assert len(asked) == 2


async def test_a_prompt_of_no_run_is_not_kept(store):
    agent, asked = counting()
    for _ in range(2):
        await Memo(agent, store).ask(prompt(run_id=""))
    assert len(asked) == 2


async def test_a_failed_call_is_not_kept(store):
    left = [RuntimeError("broken")]

    def line(_):
        if left:
            raise left.pop()
        return "ok"

    agent = Memo(ScriptedAgent("a", [line]), store)
    with pytest.raises(RuntimeError):
        await agent.ask(prompt())
    reply = await agent.ask(prompt())
    assert (reply.text, reply.recalled) == ("ok", False)


async def test_the_file_is_its_owners_alone_and_holds_no_prompt(store, path):
    await Memo(ScriptedAgent("a", ["the reply is kept"]), store).ask(prompt("a question that must not be written down"))
    files = sorted(path.parent.iterdir())
    assert [file.suffix for file in files] == [".sqlite", ".sqlite-shm", ".sqlite-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    content = b"".join(file.read_bytes() for file in files)
    assert b"the reply is kept" in content
    assert b"must not be written down" not in content


async def test_a_kept_reply_that_cannot_be_read_is_asked_again(store, path, caplog):
    agent, _ = counting()
    await Memo(agent, store).ask(prompt())
    with sqlite3.connect(path) as other:
        other.execute("update calls set reply = '{\"old\": true}'")
    other.close()
    assert (await Memo(agent, store).ask(prompt())).text == "four 2"
    assert (await Memo(agent, store).ask(prompt())).recalled
    assert "cannot be read" in caplog.text


async def test_a_reply_that_cannot_be_kept_is_handed_on_and_the_loss_told(store, path, caplog):
    agent, _ = counting()
    with sqlite3.connect(path) as other:
        other.execute("create trigger full before insert on calls begin select raise(fail, 'disk full'); end")
    other.close()
    with caplog.at_level(logging.WARNING):
        assert (await Memo(agent, store).ask(prompt())).text == "four 1"
    assert "could not be kept: disk full" in caplog.text


@pytest.mark.parametrize("spoil", ["a folder", "another file"])
def test_a_path_that_is_no_file_of_calls_is_refused(tmp_path, spoil):
    path = tmp_path / "calls.sqlite"
    path.mkdir() if spoil == "a folder" else path.write_text("not a database, but long enough to be read as one" * 99)
    with pytest.raises(InputError, match=r"paid calls cannot be kept in .*calls\.sqlite"):
        CallStore(path)


async def test_a_run_started_again_keeps_to_the_same_caps(store):
    agent, asked = counting()
    for _ in range(2):  # the second time, everything that was paid comes from the memo, and counts
        budget = Budget(BudgetSettings(calls=2))
        guarded = Budgeted(Memo(Metered(agent, budget), store), budget)
        for k in range(2):
            await guarded.ask(prompt(round=k))
        with pytest.raises(BudgetSpentError):
            await guarded.ask(prompt(round=2))
    assert len(asked) == 2


async def test_what_is_being_recalled_holds_its_place_before_others_are_asked(store):
    agent, _ = counting()
    await Memo(agent, store).ask(prompt())
    other, asked = counting("new")
    budget = Budget(BudgetSettings(calls=1))
    crowd = [Budgeted(Memo(Metered(one, budget), store), budget) for one in (agent, other)]
    recalled, refused = await asyncio.gather(
        crowd[0].ask(prompt()), crowd[1].ask(prompt(round=1)), return_exceptions=True
    )
    assert recalled.recalled
    assert isinstance(refused, BudgetSpentError)
    assert asked == []


async def test_the_same_call_asked_twice_at_once_is_paid_once(store):
    asked: list[Prompt] = []

    def line(got):
        asked.append(got)
        return f"text {len(asked)}"

    crowd = [Memo(ScriptedAgent("a", [line], delay=0.05), store) for _ in range(5)]
    replies = await asyncio.gather(*(agent.ask(prompt()) for agent in crowd))
    assert len(asked) == 1
    assert {reply.text for reply in replies} == {"text 1"}
    assert [reply.recalled for reply in replies] == [False, True, True, True, True]


async def test_who_waits_for_a_call_that_fails_or_is_given_up_asks_itself(store):
    left = ["!fail", "!hang"]
    line = lambda _: left.pop(0) if left else "at last"  # noqa: E731 - one expression
    agent = Memo(ScriptedAgent("a", [line], delay=0.02), store)
    failed, given_up, waiting = (asyncio.create_task(agent.ask(prompt())) for _ in range(3))
    with pytest.raises(TransientError):
        await failed
    await asyncio.sleep(0.05)
    given_up.cancel()
    assert (await waiting).text == "at last"


async def test_of_two_processes_that_paid_for_one_call_the_first_reply_stands(store, path):
    other = CallStore(path)

    class Overtaken:
        """While it writes, another process keeps a reply to the same call."""

        name = "a"

        async def ask(self, prompt, hear=None):
            await Memo(ScriptedAgent("a", ["first"]), other).ask(prompt)
            if hear:
                hear(Delta(text="second"))
            return Reply(text="second")

    heard: list[Delta] = []
    late = await Memo(Overtaken(), store).ask(prompt(), heard.append)
    again = await Memo(ScriptedAgent("a", ["never"]), store).ask(prompt())
    other.close()
    assert late.text == again.text == "first"
    assert heard == [Delta(text="second"), Delta(restart=True), Delta(text="first")]


async def test_many_threads_and_two_stores_write_to_one_file_at_once(store, path):
    other = CallStore(path)
    agents = [Memo(ScriptedAgent(f"a{k}", [f"text {k}"]), (store, other)[k % 2]) for k in range(40)]
    await asyncio.gather(*(agent.ask(prompt()) for agent in agents))
    again = await asyncio.gather(*(agent.ask(prompt()) for agent in agents))
    other.close()
    assert [reply.text for reply in again] == [f"text {k}" for k in range(40)]
    assert all(reply.recalled for reply in again)
    assert threading.active_count() < 40


RUN = """
import asyncio, sys, time
from pathlib import Path
from agents import CallStore, Memo, ScriptedAgent
from eot.types import Message, Prompt

def line(agent):
    def say(prompt):
        with open(sys.argv[2], "a") as log:  # one line for each call that was really made
            log.write(f"{agent} {prompt.round}\\n")
        return f"{agent} says {prompt.round}"
    return say

async def main():
    store = CallStore(Path(sys.argv[1]))
    agents = [Memo(ScriptedAgent(name, [line(name)], delay=float(sys.argv[3])), store) for name in "abc"]
    for k in range(4):
        asked = Prompt(messages=(Message(role="user", content="Q"),), run_id="r", round=k)
        for reply in await asyncio.gather(*(agent.ask(asked) for agent in agents)):
            print(reply.text, reply.recalled, flush=True)

asyncio.run(main())
"""


def start(path, log, delay):
    command = [sys.executable, "-c", RUN, str(path), str(log), str(delay)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_run_killed_with_minus_9_asks_only_for_what_it_had_not_got(tmp_path):
    path, log = tmp_path / "calls.sqlite", tmp_path / "asked"
    with start(path, log, 0.5) as first:
        seen = [first.stdout.readline().split() for _ in range(6)]  # two rounds of three
        time.sleep(0.05)  # into the third
        os.kill(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    handed_on = {(name, k) for name, _, k, _ in seen}
    before = log.read_text().splitlines()
    with start(path, log, 0) as second:
        said = [line.split() for line in second.stdout]
    assert second.returncode == 0
    asked_again = {tuple(line.split()) for line in log.read_text().splitlines()[len(before) :]}
    assert len(handed_on) == 6
    assert not handed_on & asked_again
    assert len(said) == 12
    assert {(name, k) for name, _, k, recalled in said if recalled == "False"} == asked_again
    assert asked_again


def test_two_processes_may_keep_their_calls_in_one_file_at_once(tmp_path):
    path, log = tmp_path / "calls.sqlite", tmp_path / "asked"
    runs = [start(path, log, 0.01) for _ in range(2)]
    for run in runs:
        said, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        assert len(said.splitlines()) == 12
    with sqlite3.connect(path) as file:
        rows = file.execute("select reply from calls").fetchall()
    file.close()
    assert sorted(json.loads(row)["text"] for (row,) in rows) == [
        f"{name} says {k}" for name in "abc" for k in range(4)
    ]


def test_replies_that_are_too_old_are_forgotten(tmp_path):
    store = CallStore(tmp_path / "calls.sqlite")
    keys = [CallKey("r", "a", k, "digest") for k in range(1200)]
    for key in keys:
        store.put(key, "reply")
    store._connection.execute("update calls set created = '2020-01-01T00:00:00.000Z' where round < 1100")
    assert store.prune(time.time() - 86_400) == 1100
    assert store.prune(time.time() - 86_400) == 0
    assert (store.find(keys[0]), store.find(keys[1150])) == (None, "reply")
    store.close()
