"""The CPU engine with a real small LLM."""

import asyncio
import subprocess
import sys
import time

import pytest
import pytest_asyncio
from weights import HOME, weights

from eot.errors import CallError, ContextOverflowError, InputError, WeightsError
from local_models import Engines, Sampling
from local_models.llama_cpp import LlamaCpp

pytestmark = [pytest.mark.llm, pytest.mark.asyncio(loop_scope="module")]
STORY = [{"role": "user", "content": "Tell me a long story about a fox and the sea."}]
GREEDY = Sampling(temperature=0, max_tokens=24)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine():
    loaded = await LlamaCpp.load(weights("smollm2-135m"), threads=1, parallel=2, context=512)
    yield loaded
    await loaded.close()


async def test_what_was_streamed_is_the_text(engine):
    heard = []
    said = await engine.generate(STORY, GREEDY, heard.append)
    assert len(heard) > 5
    assert "".join(heard) == said.text
    assert (said.finish, said.output_tokens) == ("length", 24)
    assert said.input_tokens > 10


async def test_one_seed_is_one_text_and_another_seed_another(engine):
    first, second, other = [
        (await engine.generate(STORY, Sampling(temperature=1, seed=seed, max_tokens=24))).text for seed in (5, 5, 6)
    ]
    assert first == second != other


async def test_requests_at_once_get_the_text_that_they_would_get_alone(engine):
    asked = [[{"role": "user", "content": f"Count from {start} to 20."}] for start in range(5)]
    alone = [(await engine.generate(messages, GREEDY)).text for messages in asked]
    together = await asyncio.gather(*(engine.generate(messages, GREEDY) for messages in asked))
    assert [said.text for said in together] == alone


async def test_no_seed_is_another_text_each_time(engine):
    texts = {(await engine.generate(STORY, Sampling(temperature=1.5, max_tokens=16))).text for _ in range(3)}
    assert len(texts) > 1


async def test_a_stop_string_ends_the_text_and_is_not_shown(engine):
    free = await engine.complete("1, 2, 3, 4,", Sampling(temperature=0, max_tokens=12))
    assert "6" in free.text
    heard = []
    said = await engine.complete("1, 2, 3, 4,", Sampling(temperature=0, max_tokens=12, stop=("6",)), heard.append)
    assert said.finish == "stop"
    assert said.text == "".join(heard) == free.text.partition("6")[0]


async def test_log_probabilities_are_given_with_their_alternatives(engine):
    said = await engine.generate(STORY, Sampling(temperature=0, max_tokens=6, top_logprobs=3))
    assert "".join(row.token for row in said.logprobs) == said.text
    for row in said.logprobs:
        assert len(row.top) == 3
        assert row.top[0] == (row.token, row.logprob)  # greedy took the likeliest
        assert all(value <= row.logprob <= 0 for _, value in row.top)
    assert (await engine.generate(STORY, GREEDY)).logprobs is None


async def test_characters_of_several_tokens_come_whole(engine):
    heard = []
    prompt = "Repeat after me: 🦊🌊🦊🌊🦊🌊\n🦊🌊🦊🌊🦊🌊\n🦊🌊🦊🌊"
    said = await engine.complete(prompt, Sampling(temperature=0, max_tokens=24), heard.append)
    assert any(ord(character) > 0xFFFF for character in said.text)
    assert "\ufffd" not in said.text
    assert "".join(heard) == said.text
    assert len(heard) < said.output_tokens


async def test_a_cancelled_request_stops_within_a_token_and_frees_its_slot(engine):
    endless = Sampling(temperature=1, seed=1, max_tokens=400)
    heard, writing = [], asyncio.Event()

    def hear(piece):
        heard.append(piece)
        if len(heard) == 4:
            writing.set()

    tasks = [asyncio.create_task(engine.generate(STORY, endless, hear)) for _ in range(2)]
    await writing.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    at_cancel, began = len(heard), time.monotonic()
    await asyncio.gather(*(engine.generate(STORY, Sampling(max_tokens=1)) for _ in range(2)))
    assert time.monotonic() - began < 3  # both slots were free: 400 tokens would take longer
    assert len(heard) == at_cancel


async def test_a_request_that_waits_for_a_slot_can_be_cancelled(engine):
    tasks = [asyncio.create_task(engine.generate(STORY, GREEDY)) for _ in range(2)]
    waiting = asyncio.create_task(engine.generate(STORY, Sampling(max_tokens=400)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    assert all(said.output_tokens == 24 for said in await asyncio.gather(*tasks))
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(engine):
    with pytest.raises(ContextOverflowError, match="512") as caught:
        await engine.generate([{"role": "user", "content": "word " * 600}], GREEDY)
    assert caught.value.context_tokens == engine.context_tokens == 512
    assert caught.value.prompt_tokens > 600


async def test_a_listener_that_fails_ends_the_generation_with_its_own_error(engine):
    def deaf(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await engine.generate(STORY, Sampling(max_tokens=400), deaf)
    assert (await engine.generate(STORY, Sampling(max_tokens=2))).output_tokens == 2


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_text_that_no_model_can_read_is_refused(engine, text):
    with pytest.raises(InputError, match="cannot be sent"):
        await engine.generate([{"role": "user", "content": text}], GREEDY)
    with pytest.raises(InputError, match="cannot be sent"):
        await engine.complete(text, GREEDY)


async def test_a_base_model_completes_and_refuses_to_chat():
    base = await LlamaCpp.load(weights("gemma-3-270m"), threads=1, parallel=1, context=128)
    with pytest.raises(InputError, match="base model without a chat template"):
        await base.generate(STORY, GREEDY)
    assert (await base.complete("The capital of France is", Sampling(temperature=0, max_tokens=4))).text.strip()
    await base.close()


async def test_a_damaged_file_is_named(tmp_path):
    whole = weights("smollm2-135m").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"cannot load .*cut\.gguf"):
        await LlamaCpp.load(tmp_path / "cut.gguf", threads=1)


async def test_the_context_is_never_longer_than_the_trained_one():
    loaded = await LlamaCpp.load(weights("smollm2-135m"), threads=1, parallel=1, context=100_000)
    assert loaded.context_tokens == 8192
    await loaded.close()


async def test_all_who_name_a_model_share_one_engine_and_closing_ends_what_it_writes():
    engines = Engines(HOME, threads=1, parallel=1, context=512)
    first, second = await asyncio.gather(engines.get("smollm2-135m"), engines.get(str(weights("smollm2-135m"))))
    assert first is second
    writing = asyncio.create_task(first.generate(STORY, Sampling(max_tokens=400)))
    await asyncio.sleep(0.3)
    await engines.close()
    with pytest.raises(CallError, match="closed"):
        await writing
    with pytest.raises(CallError, match="closed"):
        await first.generate(STORY, GREEDY)


async def test_the_terminal_stays_clean():
    script = """
import asyncio, sys
from pathlib import Path
from local_models import Sampling
from local_models.llama_cpp import LlamaCpp

async def main():
    engine = await LlamaCpp.load(Path(sys.argv[1]), threads=1, parallel=1, context=256)
    await engine.complete("one two", Sampling(max_tokens=2))
    await engine.close()

asyncio.run(main())
"""
    asked = [sys.executable, "-c", script, str(weights("smollm2-135m"))]
    told = await asyncio.to_thread(subprocess.run, asked, capture_output=True, check=True)
    assert (told.stdout, told.stderr) == (b"", b"")
