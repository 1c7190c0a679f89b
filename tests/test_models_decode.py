"""Rows that are decoded together: what each writes, and what is read for them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
transformers = pytest.importorskip("transformers", reason="needs the extra eot[torch]")
from random_llama import SIZES, VOCABULARY, random_llama, tokens_of  # noqa: E402

from local_models.decode import Row, decode, sample  # noqa: E402
from local_models.roomy import RoomyLayer  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def model():
    return random_llama()


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
