"""What callers say of runs is kept, says what it does of each agent, and a gate learns from it."""

import asyncio
import os

import httpx
import numpy as np
import pytest
from serving import serving, settings

from agents.gating import Scored, examples, fit, save
from api.asks import make_question
from api.compose import House
from api.gated import balance_for, gate_path
from api.gating import feedback_rows
from eot.errors import InputError
from eot.settings import CouncilSettings


@pytest.fixture
def served(tmp_path):
    """Three agents of whom two say 7 and one says 8, all asked."""
    councils = {"default": {"agents": ["a", "b", "c"], "lazy": False, "rounds": 0}}
    with serving(settings(tmp_path, councils=councils)) as running:
        yield running


def ran(url, text="What is 3 + 4?"):
    body = {"question": {"text": text, "kind": "number"}}
    begun = httpx.post(f"{url}/v1/runs", json=body).json()
    ended = httpx.get(f"{url}/v1/runs/{begun['id']}?wait=20").json()
    assert ended["status"] == "completed", ended
    return f"{url}/v1/runs/{begun['id']}"


def test_the_right_answer_scores_every_agent_and_a_reward_those_behind_the_verdict(served):
    run = ran(served.url)
    assert httpx.get(f"{run}/feedback").status_code == 404
    said = httpx.post(f"{run}/feedback", json={"gold": "7"})
    assert said.status_code == 200, said.text
    assert said.json()["scores"] == {"a": 1.0, "b": 1.0, "c": 0.0}
    said = httpx.post(f"{run}/feedback", json={"reward": 0.25}).json()
    assert (said["scores"], said["reward"]) == ({"a": 0.25, "b": 0.25}, 0.25)
    assert httpx.get(f"{run}/feedback").json() == said
    said = httpx.post(f"{run}/feedback", json={"scores": {"c": 0.5}}).json()
    assert said["scores"] == {"c": 0.5}
    assert httpx.delete(f"{run}?forget=true").status_code == 200
    assert httpx.get(f"{run}/feedback").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "say one of reward, gold and scores"),
        ({"reward": 1, "gold": "7"}, 422, "say one of"),
        ({"reward": 2}, 422, "less than or equal to 1"),
        ({"gold": "a fish"}, 400, "is no answer to a question of kind number"),
        ({"scores": {"zed": 1}}, 400, "'zed' did not sit in this run"),
    ],
)
def test_feedback_that_says_nothing_is_refused(served, body, status, said):
    answer = httpx.post(f"{ran(served.url)}/feedback", json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert httpx.post(f"{served.url}/v1/runs/run_none/feedback", json={"reward": 1}).status_code == 404


def test_a_gate_is_trained_from_what_was_said_of_runs(served, tmp_path):
    for at in range(3):
        httpx.post(f"{ran(served.url, f'What is {at} + {7 - at}?')}/feedback", json={"gold": "7"}).raise_for_status()
    rows = asyncio.run(feedback_rows(served.service.settings))
    assert [row.question for row in rows] == ["What is 0 + 7?", "What is 1 + 6?", "What is 2 + 5?"]
    assert rows[0].scores == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert rows[0].costs == {"a": 0.0, "b": 0.0, "c": 0.0}


async def test_a_gate_trained_anew_begins_anew_with_whom_it_asked(tmp_path, monkeypatch):
    house = House(settings(tmp_path))
    monkeypatch.setattr(house, "embedder", lambda method: lambda texts: np.eye(1, 12))
    path = gate_path(house.settings, "g")
    rows = [Scored(f"q{at}", {"a": 1.0, "b": 0.0}) for at in range(12)]
    save(fit(examples(rows), np.eye(12), house.settings.embed.name), path)
    seats = CouncilSettings(agents="gate:g", pick=1, capacity=1)

    async def asked():
        return (await house.seated(seats, make_question(text="q"))).agents[0]

    assert [await asked() for _ in range(51)] == ["a"] * 50 + ["b"], "a had its half of a hundred"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert await asked() == "a"
    await house.close()


def test_shares_name_everyone_whom_the_gate_may_pick(tmp_path):
    house = settings(tmp_path)
    rows = [Scored(f"q{at}", {"a": 1.0, "b": 0.0}) for at in range(12)]
    save(fit(examples(rows), np.eye(12), house.embed.name), gate_path(house, "g"))
    even = CouncilSettings(agents="gate:g", capacity=1.5)
    assert list(balance_for(even, house).shares) == [0.5, 0.5]
    uneven = CouncilSettings(agents="gate:g", shares={"b": 3, "a": 1})
    assert list(balance_for(uneven, house).shares) == [0.25, 0.75]
    assert balance_for(CouncilSettings(agents="gate:g"), house) is None
    capped, spread = balance_for(even, house), balance_for(uneven, house)
    asked = [capped.pick(np.array([0.55, 0.5]), 1)[0] for _ in range(75)]
    assert asked == [0] * 75, "below its capacity, 1.5 x a half of 100, the better one is asked"
    assert capped.pick(np.array([0.55, 0.5]), 1) == [1]
    assert {spread.pick(np.array([0.55, 0.5]), 1)[0] for _ in range(75)} == {0, 1}
    for shares, said in (({"a": 1}, "'b' differs"), ({"a": 0, "b": 0}, "somebody must be asked")):
        with pytest.raises(InputError, match=said):
            balance_for(CouncilSettings(agents="gate:g", shares=shares), house)
