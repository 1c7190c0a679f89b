"""Whatever goes wrong upstream, in whatever topology: an answer or a clean error, within the deadline."""

import asyncio
import time

import pytest
from fault_server import FAULTS, faulty, good, names_another_model, unused_port
from serving import settings

from agents.hosted import _litellm
from api.compose import House
from eot.errors import NoQuorumError
from eot.types import Question, Silence
from topologies import TOPOLOGIES, run

# LiteLLM 1.105 has types, and reads fields, in ways that pydantic 2.11 and later warn of: theirs to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
]

DEADLINE, ROUNDS = 1.5, 1
LATEST = DEADLINE * (ROUNDS + 1) + 2
"""Seconds: every turn of every round to its deadline, and what the machine itself takes when others use it too."""
_WARM = []
CANARY = "sk-canary-upstream-5b1e"
QUESTION = Question(text="What is 3 + 4?", kind="number")


@pytest.fixture(autouse=True)
async def litellm_is_warm(tmp_path_factory):
    """Its import and its first call take seconds, and no deadline is to be spent on them."""
    if not _WARM:
        await asyncio.to_thread(_litellm)
        async with faulty(good) as sound, faulty(FAULTS["500"]) as broken:
            for model in ("openai/m", "custom_openai/m"):
                await ask(tmp_path_factory.mktemp("warm"), "report", sound.url, sound.url, broken.url, model=model)
        _WARM.append(True)


async def ask(home, topology, *urls, model="openai/m"):
    """Put a council of three, whose agents live at these addresses, to the question; its result or error, and when."""
    keys = {"model": model, "api_key": CANARY, "deadline": DEADLINE, "retries": 1}
    agents = {name: {**keys, "base_url": url} for name, url in zip("abc", urls, strict=True)}
    seats = {"agents": list(agents), "topology": topology, "rounds": ROUNDS, "stop": [], "lazy": False}
    table = settings(home, agents=agents, councils={"default": seats | {"vote": "majority"}})
    house, started = House(table), time.monotonic()
    try:
        found = await run(await house.council(table.councils["default"]), QUESTION, run_id=topology)
    except NoQuorumError as fault:
        found = fault
    finally:
        await house.close()
    return found, time.monotonic() - started


async def in_every_topology(tmp_path, *urls):
    homes = {topology: tmp_path / topology for topology in TOPOLOGIES}
    for home in homes.values():
        home.mkdir()
    asked = await asyncio.gather(*(ask(home, topology, *urls) for topology, home in homes.items()))
    return dict(zip(homes, asked, strict=True))


async def nothing_left_open(*servers):
    for _ in range(100):
        if not any(server.open for server in servers):
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize("name", FAULTS)
async def test_one_faulty_agent_does_not_stop_the_crowd(tmp_path, name):
    async with faulty(FAULTS[name], echo=CANARY) as broken, faulty(good) as sound:
        asked = await in_every_topology(tmp_path, sound.url, broken.url, sound.url)
        assert await nothing_left_open(broken, sound)
    for topology, (result, seconds) in asked.items():
        assert seconds < LATEST, (topology, seconds)
        assert (result.verdict.answer, result.verdict.degraded) == ("7", True), topology
        assert {turn.agent for turn in result.exchange.silences} == {"b"}
        assert CANARY not in result.model_dump_json()


@pytest.mark.parametrize("name", FAULTS)
async def test_a_crowd_that_is_faulty_says_so_in_time(tmp_path, name):
    async with faulty(FAULTS[name], echo=CANARY) as broken:
        asked = await in_every_topology(tmp_path, broken.url, broken.url, broken.url)
        assert await nothing_left_open(broken)
    for topology, (fault, seconds) in asked.items():
        assert seconds < LATEST, (topology, seconds)
        assert isinstance(fault, NoQuorumError), (topology, fault)
        assert str(fault).startswith("0 of 3 agents answered and 2 are needed (a: ")
        assert CANARY not in str(fault)
        assert "Traceback" not in str(fault)
        assert len(str(fault)) < 3000


@pytest.mark.parametrize("name", FAULTS)
async def test_what_litellm_asks_is_held_to_the_same(tmp_path, name):
    """`openai/` with a base_url is asked without LiteLLM; `custom_openai/` goes through its OpenAI client."""
    async with faulty(good) as trap, faulty(good) as sound:
        async with faulty(FAULTS[name], echo=CANARY, elsewhere=trap.url.removesuffix("/v1")) as broken:
            asked = await ask(tmp_path, "report", sound.url, broken.url, sound.url, model="custom_openai/m")
            assert await nothing_left_open(broken, sound)
        assert (trap.requests, broken.requests > 0, sound.requests > 0) == (0, True, True)
    result, seconds = asked
    assert seconds < LATEST
    assert (result.verdict.answer, result.verdict.degraded) == ("7", True)
    assert CANARY not in result.model_dump_json()


async def test_a_refused_connection_is_an_agent_that_is_silent(tmp_path):
    nobody = f"http://127.0.0.1:{unused_port()}/v1"
    async with faulty(good) as sound:
        asked = await in_every_topology(tmp_path, sound.url, nobody, sound.url)
    for result, seconds in asked.values():
        assert seconds < LATEST
        assert (result.verdict.answer, result.verdict.lost) == ("7", ("b",))


async def test_a_model_that_goes_by_another_name_answers_all_the_same(tmp_path):
    async with faulty(names_another_model) as other:
        asked = await in_every_topology(tmp_path, other.url, other.url, other.url)
    for result, _ in asked.values():
        assert (result.verdict.answer, result.verdict.degraded) == ("7", False)


async def test_an_upstream_cannot_send_us_elsewhere(tmp_path):
    async with faulty(good) as trap, faulty(FAULTS["redirect"], elsewhere=trap.url.removesuffix("/v1")) as broken:
        asked = await in_every_topology(tmp_path, broken.url, broken.url, broken.url)
        assert (trap.requests, broken.requests > 0) == (0, True)
    assert all(isinstance(fault, NoQuorumError) for fault, _ in asked.values())


async def test_a_long_wait_that_is_asked_for_is_not_waited_for(tmp_path):
    """30 s are more than the deadline leaves: the turn is silent when its time is up, and not later."""
    async with faulty(FAULTS["429 with Retry-After"]) as broken, faulty(good) as sound:
        result, seconds = await ask(tmp_path, "report", sound.url, broken.url, sound.url)
    assert seconds < LATEST
    assert {type(turn) for turn in result.exchange.silences} == {Silence}
