"""Fusion of models with different vocabularies: text as bytes between them, `unite`, `gac` and `safe`."""

import asyncio
import gc
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eot.errors import CallError, InputError
from eot.fusion import FusionSettings
from local_models import Sampling

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
transformers = pytest.importorskip("transformers", reason="needs the extra eot[torch]")
from fusion_exact import replies, surprise  # noqa: E402
from fusion_models import TEXT, byte_level, engine, sentence_piece  # noqa: E402
from transformers import DynamicCache  # noqa: E402
from weights import HOME, weights  # noqa: E402

from local_models.fusion import FusionEngine  # noqa: E402
from local_models.fusion.across import AcrossVocabularies  # noqa: E402
from local_models.fusion.follow import Follower  # noqa: E402
from local_models.fusion.gac import Gac  # noqa: E402
from local_models.fusion.request import FusedRequest  # noqa: E402
from local_models.fusion.unite import Unite  # noqa: E402
from local_models.fusion.vocabulary import END, Vocabulary  # noqa: E402
from local_models.transformers_engine import TransformersEngine  # noqa: E402

pytestmark = pytest.mark.torch
METHODS = [
    ("unite", {}),
    ("gac", {"threshold": 1}),
    ("gac", {}),
    ("deepen", {}),
    ("safe", {}),
    ("safe", {"inner": "gac", "threshold": 1}),
    ("safe", {"inner": "deepen", "draft": 2}),
]
PROMPTS = ["the cat", "def add(a, b):\n", "你好，世界"]


@pytest.fixture(scope="module")
def trio():
    return engine(0), engine(1, sentence_piece()), engine(2, byte_level(320))


def vocabulary(tokenizer, name="x"):
    return Vocabulary(tokenizer, frozenset([0]), name)


def fused(members, method="safe", **keys):
    names = tuple(f"m{place}" for place in range(len(members)))
    return FusionEngine(members, FusionSettings(members=names, method=method, **keys), "set", parallel=32)


async def said(one, prompts, sampling):
    return [made.text for made in await asyncio.gather(*(one.complete(prompt, sampling) for prompt in prompts))]


@given(text=st.text(max_size=40), cut=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_whatever_is_written_comes_back_byte_for_byte(text, cut):
    data = text.encode()
    data = data[: len(data) - cut]  # perhaps in the middle of a character
    for tokenizer in (byte_level(), sentence_piece()):
        words = vocabulary(tokenizer)
        assert words.written(words.encode(data)) == data


def test_pieces_are_what_the_tokenizer_decodes_and_control_tokens_are_never_typed():
    for tokenizer in (byte_level(), sentence_piece()):
        words, ids = vocabulary(tokenizer), tokenizer.encode(TEXT, add_special_tokens=False)
        assert words.encode(TEXT.encode()) == ids
        typed = words.encode(b"the <|end|>")
        assert 0 not in typed
        assert words.written(typed) == b"the <|end|>"
    assert vocabulary(byte_level()).first_difference(vocabulary(byte_level())) is None


def test_all_ends_are_one_piece_and_control_tokens_have_no_part():
    words = Vocabulary(byte_level(), frozenset([0, 5]), "x")
    row = words.folded(torch.arange(300.0) / 100)
    p = np.exp(np.arange(300) / 100)
    p[1] = 0  # <|user|>
    assert words.surfaces[-1] == END
    assert float(row[-1].exp()) == pytest.approx((p[0] + p[5]) / p.sum(), abs=1e-6)
    assert row[[0, 1, 5]].tolist() == [-math.inf] * 3
    assert float(row[7].exp()) == pytest.approx(p[7] / p.sum(), abs=1e-6)


def windowed():
    """A Gemma 3 whose window of eight tokens is soon past."""
    torch.manual_seed(3)
    config = transformers.Gemma3TextConfig(
        vocab_size=len(sentence_piece()), hidden_size=32, intermediate_size=64, num_hidden_layers=3, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=8, initializer_range=0.4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    made = engine(3, sentence_piece(), name="windowed")
    made.model = transformers.Gemma3ForCausalLM(config).float().eval()
    return made


@pytest.mark.parametrize("which", [0, 1, "windowed"])
def test_a_member_that_followed_a_changing_text_knows_what_one_that_read_it_at_once_knows(trio, which):
    member, draws = windowed() if which == "windowed" else trio[which], random.Random(5)
    words = vocabulary(member.tokenizer)
    prompt = member.tokenizer.encode("the dog ran after the cat on the mat")
    source, text = TEXT.encode(), b""
    one = Follower(member, words, prompt)
    with torch.inference_mode():
        for _ in range(40):
            start = draws.randrange(len(source))
            text = text[: draws.randrange(len(text) + 1) if draws.random() < 0.4 else len(text)]
            text += source[start : start + draws.randrange(9)]
            one.follow(text)
            fresh = Follower(member, words, [*prompt, *one.ids])
            torch.testing.assert_close(one.rows(1)[0], fresh.rows(1)[0], atol=2e-4, rtol=1e-4)
            assert words.written(one.ids) == text


def test_following_reads_only_what_is_new(trio):
    read = []
    hook = trio[1].model.register_forward_pre_hook(
        lambda _m, _a, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    one = Follower(trio[1], vocabulary(sentence_piece()), sentence_piece().encode("the dog " * 20))
    with torch.inference_mode():
        for size in range(0, 100, 4):
            one.follow(TEXT.encode()[:size])
            one.rows()
    hook.remove()
    assert max(read[1:]) <= 4 + 8 + 1


@pytest.mark.parametrize(("method", "keys"), METHODS)
async def test_one_model_twice_writes_what_it_writes_alone(trio, method, keys):
    sampling = Sampling(0, max_tokens=60)
    # The library's decoder of byte tokens shows a whole run as unreadable where one of its bytes is.
    texts = engine(1, sentence_piece(), mute=range(2, 258))
    for member in (trio[0], texts):
        assert await said(fused([member, member], method, **keys), PROMPTS, sampling) == await said(
            member, PROMPTS, sampling
        )


@pytest.mark.parametrize(("method", "keys"), METHODS)
async def test_a_weight_of_zero_leaves_the_main_model_as_it_is(trio, method, keys):
    sampling = Sampling(0, max_tokens=40)
    one = fused(trio, method, weights=(1, 0, 0), **keys)
    assert await said(one, PROMPTS, sampling) == await said(trio[0], PROMPTS, sampling)


@pytest.mark.parametrize("temperature", [0, 0.9])
@pytest.mark.parametrize(("method", "keys"), METHODS)
async def test_every_method_writes_text_of_three_vocabularies(trio, method, keys, temperature):
    one, sampling = fused(trio, method, **keys), Sampling(temperature, max_tokens=30, seed=2, top_logprobs=2)
    made = await asyncio.gather(*(one.complete(prompt, sampling) for prompt in PROMPTS))
    again = await one.complete(PROMPTS[0], sampling)
    assert again.text == made[0].text
    assert all(reply.output_tokens == 30 for reply in made)
    for token in made[0].logprobs:
        assert token.logprob <= 1e-5
        assert sum(view.share for view in token.members) == pytest.approx(1, abs=1e-5) or not any(
            view.share for view in token.members
        )
    assert {view.name for token in made[0].logprobs for view in token.members} == {"tiny0", "tiny1", "tiny2"}


def rows_of(words, **probabilities):
    """A row in which the named pieces have these probabilities and the rest share what is left."""
    left = 1 - sum(probabilities.values())
    row = torch.full((len(words.surfaces),), left / len(words.surfaces))
    for piece, probability in probabilities.items():
        row[len(words.pieces) if piece == "END" else words.ids[piece.replace("_", " ").encode()]] = probability
    return row.log()


def test_unite_is_a_mean_over_the_union_of_the_top_pieces():
    words = [vocabulary(byte_level()), vocabulary(sentence_piece())]
    rows = [rows_of(words[0], the=0.5, t=0.3), rows_of(words[1], t=0.6, END=0.2)]
    ballot = Unite(words, (0.25, 0.75), 2)(rows)
    found = dict(zip(ballot.pieces, ballot.fused.exp().tolist(), strict=True))
    rest = [(0.2 / 301), (0.2 / len(words[1].surfaces))]
    first = np.array([0.5, 0.3, rest[0]])  # the, t, END
    other = np.array([rest[1], 0.6, 0.2])
    if b"the" not in words[1].ids:
        other[0] = 0.6  # its first sub-token is t
    assert set(found) == {b"the", b"t", END}
    mean = 0.25 * first / first.sum() + 0.75 * other / other.sum()
    assert [found[piece] for piece in (b"the", b"t", END)] == pytest.approx(mean.tolist(), abs=1e-5)


def test_unite_gives_pieces_with_the_same_beginning_the_same_logit_not_zero():
    """As released the second one gets a logit of 0, which beats every likely token: log probabilities are negative."""
    words = [vocabulary(byte_level()), vocabulary(sentence_piece())]
    split = {piece: words[1].encode(piece) for piece in words[0].ids if piece.isalpha() and piece not in words[1].ids}
    starts = Counter(ids[0] for ids in split.values())
    whole = [piece for piece, ids in split.items() if starts[ids[0]] > 1 and ids[0] == starts.most_common(1)[0][0]]
    row = rows_of(words[0], **{piece.decode().replace(" ", "_"): 0.4 for piece in whole[:2]})
    ballot = Unite(words, (0.5, 0.5), 2)([row, rows_of(words[1], t=0.6, on=0.3)])
    given = dict(zip(ballot.pieces, ballot.members[1].tolist(), strict=True))
    assert given[whole[0]] == given[whole[1]] < given[b"on"]


def test_gac_is_a_mean_over_the_union_of_all_pieces():
    words = [vocabulary(byte_level()), vocabulary(sentence_piece())]
    rows = [rows_of(words[0], the=0.5, END=0.1), rows_of(words[1], the=0.2, t=0.4)]
    method = Gac(words, (0.5, 0.5), 0.5)
    ballot = method(rows)
    found = dict(zip(ballot.pieces, ballot.fused.exp().tolist(), strict=True))
    assert found[b"the"] == pytest.approx(0.35, abs=1e-5)
    assert found[END] == pytest.approx(0.05 + 0.2 / len(words[1].surfaces), abs=1e-3)
    assert method.is_alone(rows[0])
    assert not method.is_alone(rows[1])


async def test_gac_asks_the_others_only_where_the_main_member_is_unsure(trio):
    passes = Counter()
    hook = trio[2].model.register_forward_hook(lambda *_: passes.update(["one"]))
    for threshold in (1.0, 0.2, 0.001):
        await fused([trio[0], trio[2]], "gac", threshold=threshold).complete("the cat", Sampling(0, max_tokens=30))
        passes[threshold] = passes.pop("one", 0)
    hook.remove()
    assert passes[1.0] == 30
    assert passes[0.001] == 0
    assert 0 < passes[0.2] < 30


@pytest.mark.parametrize("draft", [1, 3, 5])
async def test_safe_changes_no_greedy_token_where_all_share_a_vocabulary(trio, draft):
    """Both rules keep the mean's best token there, so drafting must give what fusing every token gives."""
    pair, sampling = [trio[0], engine(4)], Sampling(0, max_tokens=60)
    every = await said(fused(pair, "gac", threshold=1), PROMPTS, sampling)
    drafted = fused(pair, "safe", inner="gac", threshold=1, sharpen=0, draft=draft)
    assert await said(drafted, PROMPTS, sampling) == every
    assert every != await said(pair[0], PROMPTS, sampling)
    assert every == await said(fused(pair, "prob"), PROMPTS, sampling)


async def test_safe_draws_from_the_fused_distribution_where_all_share_a_vocabulary(trio):
    runs, how, pair = 400, {"temperature": 1.0, "top_p": 0.6}, [trio[0], engine(4)]
    prompt, words = byte_level().encode("the dog"), vocabulary(byte_level())
    keys = {"inner": "gac", "threshold": 1, "draft": 2}
    made = AcrossVocabularies(
        pair, [words] * 2, (0.5, 0.5), FusionSettings(members=("a", "b"), method="safe", **keys), "safe"
    )
    asked = [FusedRequest([prompt] * 2, Sampling(**how, max_tokens=3, seed=s), 3, str) for s in range(runs)]
    await asyncio.to_thread(made.decode, asked)
    found = Counter([(await request.told(None)).text for request in asked])

    def exact(blend):
        ids = replies(prompt, blend, pair, 3, **how)
        return {str([words.pieces[token] for token in reply]): p for reply, p in ids.items()}

    assert surprise(found, exact(lambda lp: np.logaddexp(*lp) - math.log(2)), runs) > 1e-3
    assert surprise(found, exact(lambda lp: lp[0]), runs) < 1e-6


async def test_a_verifier_that_agrees_reads_each_draft_in_one_pass():
    passes = Counter()
    main, twin = engine(0), engine(0)
    for one in (main, twin):  # sure of each token: where the main member is not, its draft ends
        torch.nn.init.normal_(one.model.lm_head.weight, std=50, generator=torch.Generator().manual_seed(1))
    hook = twin.model.register_forward_hook(lambda *_: passes.update(["one"]))
    made = await fused([main, twin], "safe", draft=5).complete("the cat", Sampling(0, max_tokens=60))
    hook.remove()
    assert made.output_tokens == 60
    assert passes["one"] == 12


@pytest.mark.parametrize("method", ["unite", "safe"])
async def test_a_member_without_numbers_is_dropped_wherever_it_sits(trio, method):
    sick = engine(5, sentence_piece(), name="sick")
    torch.nn.init.constant_(sick.model.lm_head.weight, torch.nan)
    alone = await trio[0].complete("the cat", Sampling(0, max_tokens=20))
    for members in ([trio[0], sick], [sick, trio[0]]):
        made = await fused(members, method).complete("the cat", Sampling(0, max_tokens=20))
        assert made.text == alone.text
        assert made.notes == ("sick was dropped: its logits were not numbers",)
    with pytest.raises(CallError, match="sick is the last member"):
        await fused([sick, sick], method).complete("the cat", Sampling())


async def test_a_reply_that_a_member_cannot_write_on_with_ends_alone(trio, monkeypatch):
    write, stuck = Follower.write, []

    def refuses(follower, piece):
        stuck.append(follower)
        if follower is stuck[0]:
            raise InputError("b has no token for byte 7")
        write(follower, piece)

    monkeypatch.setattr(Follower, "write", refuses)
    both = fused(trio[:2], "unite")
    asked = [both.complete(text, Sampling(0, max_tokens=10)) for text in ("the cat", "a dog")]
    told, other = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(told, CallError)
    assert str(told) == "b has no token for byte 7"
    assert other.output_tokens == 10


async def test_a_reply_ends_where_the_members_end_it(trio):
    """Both lean to their end token once the reply is long enough; one alone does not carry it."""

    def lean(_model, _inputs, kwargs, out):
        if kwargs["past_key_values"].get_seq_length() > 25:
            out.logits[..., 0] += 120
        return out

    for members, ends in ((trio[:1], True), (trio[:2], True), ((), False)):
        hooks = [one.model.register_forward_hook(lean, with_kwargs=True) for one in members]
        for method, keys in METHODS:
            made = await fused(trio[:2], method, **keys).complete("the cat", Sampling(0, max_tokens=45))
            if len(members) != 1:
                assert (made.finish == "stop") == ends, method
                assert made.output_tokens < 40 or not ends
        for hook in hooks:
            hook.remove()


async def test_stop_strings_and_streams_hold_across_vocabularies(trio):
    one, heard = fused(trio, "safe"), []
    free = await one.complete("the cat", Sampling(0, max_tokens=40))
    stop = free.text[12:15]
    cut = await one.complete("the cat", Sampling(0, max_tokens=40, stop=(stop,)), heard.append)
    assert (cut.text, cut.finish) == (free.text.partition(stop)[0], "stop")
    assert "".join(heard) == cut.text


async def test_a_reply_ends_at_the_context_of_the_member_that_needs_most_tokens(trio):
    wordy = engine(1, sentence_piece(), name="wordy", context=70)
    for method in ("unite", "safe"):
        made = await fused([trio[0], wordy], method).complete("the cat", Sampling(0, max_tokens=400))
        assert made.finish == "length"
        words = vocabulary(sentence_piece())
        assert 40 < made.output_tokens <= 70 - len(words.encode(b"the cat"))


async def test_cancelled_requests_leave_no_cache_behind(trio):
    one, draws = fused(trio, "safe"), random.Random(0)

    async def hang_up(number):
        def hear(_):
            if draws.random() < 0.3:
                raise ConnectionError

        with pytest.raises(ConnectionError):
            await one.complete("the cat", Sampling(0.9, max_tokens=400, seed=number), hear)

    await asyncio.gather(*(hang_up(number) for number in range(24)))
    await one.close()
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is DynamicCache]


async def test_a_model_whose_state_cannot_be_cropped_is_refused(trio):
    recurrent = engine(6, name="recurrent")
    recurrent.model = transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4)
    ).eval()
    with pytest.raises(InputError, match="recurrent keeps a state that cannot be cropped"):
        fused([trio[0], recurrent], "safe")


@pytest.mark.llm
async def test_real_models_of_two_vocabularies_answer_together_and_follow_each_others_characters():
    paths = [weights(name) for name in ("qwen2.5-coder-0.5b", "smollm2-135m")]
    members = [await TransformersEngine.load(path, home=HOME, threads=1, context=256) for path in paths]
    made = await fused(members).complete("The capital of France is", Sampling(0, max_tokens=8, top_logprobs=1))
    assert "Paris" in made.text
    for member in members:
        words, source = Vocabulary(member.tokenizer, member.ends, member.name), "你好 😀\n\tx = 1234567\n".encode()
        one = Follower(member, words, member.tokenizer.encode("a"))
        for size in range(len(source) + 1):
            one.follow(source[:size])
        assert words.written(one.ids) == source
        assert one.ids == words.encode(source)
        await member.close()
