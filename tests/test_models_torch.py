"""The torch engine: batching on a tiny model with random weights, and a real small LLM from its GGUF."""

import asyncio
import math
import subprocess
import sys

import pytest
from weights import HOME, weights

from eot.errors import CallError, ContextOverflowError, InputError, WeightsError
from local_models import Engines, Sampling

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
transformers = pytest.importorskip("transformers", reason="needs the extra eot[torch]")
import tiny  # noqa: E402
from random_llama import VOCABULARY, random_llama  # noqa: E402

from local_models.transformers_engine import TransformersEngine  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model():
    return random_llama()


class Letters:
    """A tokenizer of 64 letters: as plain as one can be, and with an end token when asked for."""

    chat_template = None
    pad_token_id = 0
    eos_token_id = None

    def encode(self, text):
        return [ord(letter) - 48 for letter in text]

    def decode(self, tokens, skip_special_tokens):
        return "".join(chr(token + 48) for token in tokens)


@pytest.fixture
def engine(model):
    return TransformersEngine(model, Letters(), "tiny", parallel=3, context=80)


async def test_requests_that_come_together_are_one_batch_and_more_wait(engine, model):
    sizes = []
    hook = model.register_forward_hook(
        lambda _m, _a, kwargs, _o: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        said = await asyncio.gather(*(engine.complete(text, Sampling(0, max_tokens=4)) for text in "abcde"))
    finally:
        hook.remove()
    assert [one.output_tokens for one in said] == [4] * 5
    assert sizes == [3] * 4 + [2] * 4
    await engine.close()


async def test_who_comes_later_does_not_wait_for_the_batch_to_end(engine):
    long = asyncio.create_task(engine.complete("abc", Sampling(0, max_tokens=70), started := Started()))
    await started.wait()
    short = await engine.complete("de", Sampling(0, max_tokens=2))
    assert short.output_tokens == 2
    assert not long.done()
    assert (await long).output_tokens == 70
    await engine.close()


async def test_who_wants_the_model_between_two_batches_is_not_put_off_for_ever(engine):
    async def talk():
        while True:
            await engine.complete("abc", Sampling(0, max_tokens=20))

    talks = [asyncio.create_task(talk()) for _ in range(5)]
    first = asyncio.create_task(engine.complete("abc", Sampling(0, max_tokens=40), started := Started()))
    await started.wait()
    async with asyncio.timeout(20):
        assert await engine.between(lambda model, _: model) is engine.model
    for one in talks:
        one.cancel()
    await asyncio.gather(first, *talks, return_exceptions=True)
    await engine.close()


async def test_one_that_cannot_join_fails_alone_and_a_batch_that_fails_fails_for_those_who_joined(engine, model):
    async def begun(text, tokens=70):
        task = asyncio.create_task(engine.complete(text, Sampling(0, max_tokens=tokens), started := Started()))
        await started.wait()
        return task

    long = await begun("abc")
    with pytest.raises(CallError, match="tiny failed"):
        await engine.complete(chr(48 + VOCABULARY), Sampling(0, max_tokens=2))  # no such token
    assert (await long).output_tokens == 70
    both = [await begun("abc"), await begun("de")]
    hook = model.register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        failed = await asyncio.gather(*both, return_exceptions=True)
    finally:
        hook.remove()
    assert [type(one) for one in failed] == [CallError, CallError]
    await engine.close()


async def test_a_closed_engine_tells_those_who_joined(engine):
    first = asyncio.create_task(engine.complete("abc", Sampling(0, max_tokens=70), started := Started()))
    await started.wait()
    other = asyncio.create_task(engine.complete("de", Sampling(0, max_tokens=70), joined := Started()))
    await joined.wait()
    await engine.close()
    assert [type(one) for one in await asyncio.gather(first, other, return_exceptions=True)] == [CallError] * 2


class Started(asyncio.Event):
    """Set by the first piece of text."""

    def __call__(self, _piece):
        self.set()


async def test_each_request_has_its_own_sampling_stop_and_length(engine):
    free = await engine.complete("abc", Sampling(0, max_tokens=10))
    stop = free.text[4:6]
    heard = []
    cut, short, warm = await asyncio.gather(
        engine.complete("abc", Sampling(0, max_tokens=10, stop=(stop,)), heard.append),
        engine.complete("abc", Sampling(0, max_tokens=3)),
        engine.complete("abc", Sampling(1.5, top_p=1, max_tokens=10, seed=4)),
    )
    assert (cut.text, cut.finish) == (free.text.partition(stop)[0], "stop")
    assert "".join(heard) == cut.text
    assert (short.text, short.finish) == (free.text[:3], "length")
    assert warm.text != free.text
    await engine.close()


async def test_a_cancelled_request_leaves_the_batch_within_a_token(engine, model):
    steps = []
    hook = model.register_forward_hook(
        lambda _m, _a, kwargs, _o: steps.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    writing = asyncio.Event()
    long = asyncio.create_task(engine.complete("abc", Sampling(0, max_tokens=70), lambda _: writing.set()))
    other = asyncio.create_task(engine.complete("ijk", Sampling(0, max_tokens=70)))
    await asyncio.wait_for(writing.wait(), 20)
    long.cancel()
    at_cancel = len(steps)
    assert (await other).output_tokens == 70
    hook.remove()
    assert sum(size == 2 for size in steps) <= at_cancel + 2
    with pytest.raises(asyncio.CancelledError):
        await long
    await engine.close()


async def test_log_probabilities_are_of_the_model_itself(engine, model):
    said = await engine.complete("abc", Sampling(0, max_tokens=3, top_logprobs=2))
    with torch.inference_mode():
        logits = model(torch.tensor([Letters().encode("abc")])).logits[0, -1].log_softmax(-1)
    assert said.logprobs[0].logprob == pytest.approx(float(logits.max()), abs=1e-5)
    assert said.logprobs[0].top[0] == (said.text[0], said.logprobs[0].logprob)
    assert math.exp(said.logprobs[0].top[1][1]) < 1
    await engine.close()


async def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(engine):
    with pytest.raises(ContextOverflowError) as caught:
        await engine.complete("a" * 80, Sampling())
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (80, 80)
    assert (await engine.complete("a" * 78, Sampling(0, max_tokens=9))).finish == "length"
    await engine.close()


async def test_a_model_without_a_template_refuses_to_chat(engine):
    with pytest.raises(InputError, match="base model"):
        await engine.generate([{"role": "user", "content": "a"}], Sampling())
    await engine.close()


async def test_a_batch_that_fails_is_told_to_all_who_wait_and_the_next_one_runs(engine):
    wrong = Sampling(0, max_tokens=2)
    with pytest.raises(CallError, match="tiny failed"):
        await engine.complete("\U0001f98a", wrong)  # a token that the model does not have
    assert (await engine.complete("abc", wrong)).output_tokens == 2
    await engine.close()


async def test_a_closed_engine_says_so(engine):
    writing = asyncio.create_task(engine.complete("abc", Sampling(0, max_tokens=70)))
    await asyncio.sleep(0.02)
    await engine.close()
    with pytest.raises(CallError, match="closed"):
        await writing
    with pytest.raises(CallError, match="closed"):
        await engine.complete("abc", Sampling())


async def test_a_folder_that_is_no_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="cannot load"):
        await TransformersEngine.load(tmp_path, home=tmp_path, threads=1)


@pytest.mark.llm
async def test_a_real_model_from_its_gguf_says_the_same_alone_and_in_a_batch():
    weights("smollm2-135m")
    engines = Engines(HOME, threads=1, context=512, engine="transformers")
    engine = await engines.get("smollm2-135m")
    asked = [
        [{"role": "user", "content": text}]
        for text in ("What is the capital of France?", "Name the three primary colours in one sentence.")
    ]
    how = Sampling(0, max_tokens=12)
    together = await asyncio.gather(*(engine.generate(messages, how) for messages in asked))
    assert "Paris" in together[0].text
    assert all("<|im" not in said.text for said in together)
    assert any((HOME / "converted").glob("*/bfloat16/model*.safetensors"))
    await engines.close()


LOAD_TOGETHER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
import torch
from local_models.transformers_load import load_model

folders = [Path(each) for each in sys.argv[1:]]
together = Barrier(len(folders))

def load(folder):
    together.wait()
    return {str(weight.dtype) for weight in load_model(folder, Path("home"))[0].parameters()}

with ThreadPoolExecutor(len(folders)) as threads:
    print(*(found for dtypes in threads.map(load, folders) for found in dtypes), torch.get_default_dtype())
"""


def test_models_that_are_loaded_at_the_same_time_do_not_disturb_one_another(tmp_path):
    folders = [tmp_path / str(at) for at in range(4)]
    for folder in folders:
        tiny.model(folder)
    words = [sys.executable, "-c", LOAD_TOGETHER, *map(str, folders)]
    run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["torch.bfloat16"] * 4 + ["torch.float32"]
