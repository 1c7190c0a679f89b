"""The local agent: around an engine that notes what it is asked, and around a real small LLM."""

from pathlib import Path

import pytest

from agents import LocalAgent
from eot.errors import ContextOverflowError
from eot.settings import Settings
from eot.types import Delta, Message, Prompt
from local_models.engine import Generation, Sampling
from local_models.load import Engines
from local_models.weights import on_disk

SMALLEST = "smollm2-135m"


def prompt(text="What is 2 + 2?", **fields):
    return Prompt(messages=(Message(role="system", content="Be brief."), Message(role="user", content=text)), **fields)


class Echo:
    """An engine that says the user's words back."""

    context_tokens = 64

    def __init__(self):
        self.asked = []

    async def generate(self, messages, sampling, hear=None):
        self.asked.append((messages, sampling))
        for word in messages[-1]["content"].split():
            if hear:
                hear(word)
        return Generation(messages[-1]["content"], 5, 3, "length", 0.25)


async def test_an_engine_is_got_at_the_first_call_and_asked_what_the_prompt_says():
    got = []

    async def engine():
        got.append(Echo())
        return got[-1]

    agent = LocalAgent("l", engine, Sampling(temperature=0.2, max_tokens=9, seed=1))
    assert got == []
    heard: list[Delta] = []
    reply = await agent.ask(prompt("one two", seed=42), heard.append)
    assert heard == [Delta(text="one"), Delta(text="two")]
    assert (reply.text, reply.finish, reply.seconds) == ("one two", "length", 0.25)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.cost_usd) == (5, 3, 0.0)
    [(messages, sampling)] = got[0].asked
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two"}]
    assert sampling == Sampling(temperature=0.2, max_tokens=9, seed=42)


async def test_without_a_seed_in_the_prompt_the_agents_own_holds():
    echo = Echo()

    async def engine():
        return echo

    await LocalAgent("l", engine, Sampling(seed=7)).ask(prompt())
    assert echo.asked[0][1].seed == 7


@pytest.fixture
async def real():
    home: Path = Settings().home
    if on_disk(SMALLEST, home) is None:
        pytest.skip(f"{SMALLEST} has not been pulled; make test does so")
    engines = Engines(home, threads=1, parallel=1, context=512, engine="llama.cpp")
    yield lambda: engines.get(SMALLEST)
    await engines.close()


@pytest.mark.llm
async def test_a_real_small_llm_answers_and_the_same_seed_says_the_same(real):
    agent = LocalAgent("l", real, Sampling(max_tokens=24))
    heard: list[Delta] = []
    first = await agent.ask(prompt("Name three colours.", seed=5), heard.append)
    again = await agent.ask(prompt("Name three colours.", seed=5))
    assert first.text == "".join(delta.text for delta in heard) == again.text
    assert first.text.strip()
    assert 0 < first.usage.output_tokens <= 24
    assert first.usage.input_tokens > 5


@pytest.mark.llm
async def test_a_prompt_too_long_for_a_real_small_llm_is_refused_with_both_numbers(real):
    with pytest.raises(ContextOverflowError) as caught:
        await LocalAgent("l", real, Sampling()).ask(prompt("again and " * 600))
    assert caught.value.prompt_tokens > caught.value.context_tokens == 512
