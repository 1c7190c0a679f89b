"""The torch engine: batching on a tiny model with random weights, and a real small LLM from its GGUF."""

import asyncio
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import HOME, weights

from eot.errors import CallError, ContextOverflowError, InputError, WeightsError
from local_models import Engines, Sampling

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
transformers = pytest.importorskip("transformers", reason="needs the extra eot[torch]")
from local_models.decode import Row, decode, sample  # noqa: E402
from local_models.roomy import RoomyLayer  # noqa: E402
from local_models.transformers_engine import TransformersEngine  # noqa: E402

pytestmark = pytest.mark.torch
VOCABULARY = 64
NEVER = 10**6
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = transformers.LlamaConfig(
        **SIZES,
        max_position_embeddings=96,
        initializer_range=0.5,  # wide, so that greedy choices differ from token to token
        eos_token_id=NEVER,
    )
    return transformers.LlamaForCausalLM(config).float().eval()


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


def tokens_of(model, prompts, **how):
    """Decode prompts as one batch, 12 tokens each; the seed of a row is its prompt's sum."""
    found = [[] for _ in prompts]

    def row(prompt, into):
        def take(token, logprob, top):
            into.append(token)
            return len(into) < how.get("length", 12)

        draws = random.Random(sum(prompt))
        return Row(prompt, how.get("temperature", 0.0), how.get("top_p", 1.0), draws, take)

    decode(model, [row(prompt, into) for prompt, into in zip(prompts, found, strict=True)], pad=0)
    return found


PROMPTS = st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=20), min_size=2, max_size=5)


@given(prompts=PROMPTS)
@settings(max_examples=15, deadline=None)
def test_a_batch_writes_what_each_row_writes_alone(model, prompts):
    assert tokens_of(model, prompts) == [tokens_of(model, [prompt])[0] for prompt in prompts]


@given(prompts=PROMPTS)
@settings(max_examples=15, deadline=None)
def test_a_seed_writes_the_same_whoever_else_is_in_the_batch(model, prompts):
    how = {"temperature": 0.9, "top_p": 0.9}
    assert tokens_of(model, prompts, **how) == [tokens_of(model, [prompt], **how)[0] for prompt in prompts]


def test_our_loop_writes_what_the_library_writes_greedily(model):
    prompt = [5, 9, 33, 2]
    ours = tokens_of(model, [prompt])[0]
    theirs = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert ours == theirs[0, len(prompt) :].tolist()


def test_a_step_and_a_row_that_leaves_do_not_copy_the_cache():
    layer = RoomyLayer()
    keys = torch.randn(3, 2, 5, 4)
    layer.update(keys, -keys)
    where = layer.keys.data_ptr()
    column = torch.randn(3, 2, 1, 4)
    layer.update(column, -column)
    layer.batch_select_indices(torch.tensor([2, 1]))
    whole = torch.cat([keys, column], dim=2)[[2, 1]]
    assert layer.keys.data_ptr() == where
    torch.testing.assert_close((layer.keys, layer.values), (whole, -whole), rtol=0, atol=0)
    other = RoomyLayer()
    other.update(longer := torch.randn(1, 2, 9, 4), -longer)
    layer.join(other)
    assert layer.keys.shape == (3, 2, 9, 4)
    torch.testing.assert_close(layer.keys[:2, :, 3:], whole, rtol=0, atol=0)
    torch.testing.assert_close(layer.values[2:], -longer, rtol=0, atol=0)
    assert layer.keys.isfinite().all()


def test_keys_and_values_of_the_cache_may_be_of_different_widths():
    layer, other = RoomyLayer(), RoomyLayer()
    keys, values = torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 4)  # as in DeepSeek's latent attention
    layer.update(keys, values)
    other.update(keys[:1], values[:1])
    layer.join(other)
    torch.testing.assert_close((layer.keys, layer.values), (keys[[0, 1, 0]], values[[0, 1, 0]]), rtol=0, atol=0)


def test_a_finished_row_leaves_and_the_others_go_on_unchanged(model):
    prompts = [[3, 4, 5], [7, 8], [11]]
    whole = tokens_of(model, prompts)
    found = [[] for _ in prompts]
    rows = [
        Row(prompt, 0.0, 1.0, random.Random(0), lambda t, *_, into=into, n=n: into.append(t) or len(into) < n)
        for prompt, into, n in zip(prompts, found, (2, 12, 6), strict=True)
    ]
    decode(model, rows, pad=0)
    assert found == [whole[0][:2], whole[1], whole[2][:6]]


@given(first=PROMPTS, later=st.lists(st.tuples(st.integers(1, 14), PROMPTS), max_size=4))
@settings(max_examples=25, deadline=None)
def test_rows_that_join_a_running_batch_write_what_they_write_alone(model, first, later):
    told, step = [], 0

    def row(prompt):
        told.append((prompt, tokens := []))
        return Row(prompt, 0.0, 1.0, random.Random(0), lambda t, *_: tokens.append(t) or len(tokens) < len(prompt) + 3)

    def more(running):
        nonlocal step
        step += 1
        return [row(prompt) for at, prompts in later if at == step for prompt in prompts]

    decode(model, [row(prompt) for prompt in first], 0, more)
    assert [tokens for _, tokens in told] == [
        tokens_of(model, [prompt], length=len(prompt) + 3)[0] for prompt, _ in told
    ]


def read_sizes(model, prompts):
    """The shapes of the passes that read these prompts, before any token is written."""
    shapes = []
    hook = model.register_forward_hook(
        lambda _m, _a, kwargs, _o: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        tokens_of(model, prompts, length=1)
    finally:
        hook.remove()
    return shapes


def test_a_prompt_that_several_rows_share_is_read_once(model):
    assert read_sizes(model, [[4, 5, 6]] * 3 + [[7, 8, 9]]) == [(2, 3)]


STEMMED = st.lists(
    st.tuples(st.sampled_from([[9] * 32, [9] * 31 + [8], [7] * 40]), st.lists(st.integers(1, 63), max_size=12)),
    min_size=2,
    max_size=6,
)


@given(parts=STEMMED, later=STEMMED)
@settings(max_examples=25, deadline=None)
def test_prompts_that_begin_alike_write_what_they_write_alone(model, parts, later):
    prompts, joining = ([stem + rest for stem, rest in some] for some in (parts, later))
    found = [[] for _ in prompts + joining]

    def row(prompt, into):
        limit = len(prompt) % 9 + 2
        return Row(prompt, 0.0, 1.0, random.Random(0), lambda t, *_: into.append(t) or len(into) < limit)

    rows = [row(prompt, into) for prompt, into in zip(prompts + joining, found, strict=True)]
    waiting = rows[len(prompts) :]
    decode(model, rows[: len(prompts)], 0, lambda _: [waiting.pop() for _ in waiting[:2]])
    for one, tokens in zip(rows, found, strict=True):
        assert tokens == tokens_of(model, [one.prompt], length=len(one.prompt) % 9 + 2)[0]


def test_a_head_that_all_share_does_not_hide_the_question_that_some_share(model):
    head = [7] * 36
    prompts = [[*head, *range(at, at + 40), other] for at in (1, 20) for other in (61, 62, 63)]
    assert read_sizes(model, prompts) == [(2, 76), (6, 1)]


def test_what_prompts_begin_with_is_read_once(model):
    stem = list(range(1, 41))
    prompts = [[*stem, 50, 51, 52], [*stem, 50, 53], [*stem, 54], [6] * 44, [*stem, 54]]
    assert read_sizes(model, prompts) == [(1, 40), (3, 3), (1, 44)]


def test_prompts_of_unlike_length_are_not_padded_to_the_longest(model):
    assert read_sizes(model, [[3] * 30, [4] * 4, [5] * 5]) == [(2, 5), (1, 30)]


def test_where_a_layer_forgets_nobody_joins_and_all_are_read_together():
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(
        **SIZES,
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    )
    forgetful = transformers.Gemma3ForCausalLM(config).float().eval()
    prompts = [[3] * 30, [4] * 4]
    assert read_sizes(forgetful, prompts) == [(2, 30)]
    assert tokens_of(forgetful, prompts) == [tokens_of(forgetful, [prompt])[0] for prompt in prompts]
    asked = []
    row = Row([3, 4], 0.0, 1.0, random.Random(0), lambda *_: False)
    decode(forgetful, [row], 0, lambda running: asked.append(running) or ())
    assert asked == []


def test_the_nucleus_is_what_the_definition_says():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().repeat(1000, 1)
    draws = torch.arange(1000) / 1000
    ones = torch.ones(1000)
    drawn = sample(logits, ones, 0.7 * ones, draws).bincount(minlength=4)
    assert drawn.tolist() == pytest.approx([625, 375, 0, 0], abs=1)  # 0.5 and 0.3 reach 0.7: 5/8 and 3/8
    assert set(sample(logits, ones, 0.01 * ones, draws).tolist()) == {0}
    sharp = sample(logits, 0.5 * ones, ones, draws).bincount(minlength=4)
    squares = [p * p / (0.25 + 0.09 + 0.0225 + 0.0025) * 1000 for p in (0.5, 0.3, 0.15, 0.05)]
    assert sharp.tolist() == pytest.approx(squares, abs=1.5)


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
