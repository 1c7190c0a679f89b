"""The methods for different vocabularies beside the exact mixture of the members' next bytes."""

import pytest

from eot.fusion import FusionSettings
from local_models import Sampling

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
from byte_oracle import ByteModel, first_bytes  # noqa: E402
from fusion_models import byte_level, bytes_alone, engine, sentence_piece  # noqa: E402

from local_models.fusion import FusionEngine  # noqa: E402
from local_models.fusion.deepen import Deepen  # noqa: E402
from local_models.fusion.gac import Gac  # noqa: E402
from local_models.fusion.unite import Unite  # noqa: E402

pytestmark = pytest.mark.torch
PROMPT = "the cat sat"


def models(*members):
    return [ByteModel(member, member.tokenizer.encode(PROMPT)) for member in members]


def test_the_oracle_sums_over_every_way_to_write_a_text():
    [model] = models(engine(0))
    text = b" the"
    ways = model.written(text)[len(text)]
    assert len(ways) > 3  # " the", " ", "t", "the", ...
    # P(x) by the chain rule of bytes is P(x) by the covers of x
    chain = 1.0
    for size in range(len(text)):
        chain *= float(model.next(text[:size])[text[size]])
    covers = sum(ways.values()) + sum(
        p * float(model.row(ids)[place])
        for at in range(len(text))
        for ids, p in model.written(text)[at].items()
        for piece, place in model.words.ids.items()
        if piece.startswith(text[at:]) and len(piece) > len(text) - at
    )
    assert chain == pytest.approx(covers, rel=1e-9)


def test_at_a_boundary_of_all_gac_is_the_exact_mixture_and_the_others_come_near():
    members = [engine(seed, tokenizer) for seed, tokenizer in ((0, byte_level()), (1, sentence_piece()))]
    exact = models(*members)
    mixture = sum(0.5 * one.next(b"") for one in exact)
    words, shares = [one.words for one in exact], (0.5, 0.5)
    rows = [one.row(()).log().float() for one in exact]
    tables = [member.model.get_input_embeddings().weight.detach() for member in members]
    settings = FusionSettings(members=("a", "b"), method="deepen")

    def away(ballot):
        return 0.5 * float((first_bytes(ballot) - mixture).abs().sum())

    assert away(Gac(words, shares, 1.0)(rows)) < 1e-5
    alone = 0.5 * float((exact[0].next(b"") - mixture).abs().sum())
    assert away(Unite(words, shares, 1000)(rows)) < alone / 2
    assert away(Deepen(words, shares, settings, tables)(rows)) < alone / 2


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("gac", {"threshold": 1}),
        ("unite", {"top_k": 300}),
        ("safe", {"inner": "gac", "threshold": 1, "sharpen": 0}),
        ("deepen", {"keep": 300, "floor": 0, "iterations": 50}),
    ],
)
async def test_where_each_token_is_a_byte_in_both_vocabularies_every_method_writes_the_exact_mixtures_best(
    method, keys
):
    members = engine(0, byte_level(258)), engine(4, bytes_alone())
    settings = FusionSettings(members=("a", "b"), method=method, weights=(2, 3), **keys)
    one = FusionEngine(members, settings, "pair")
    assert one.difference is not None
    made = await one.complete(PROMPT, Sampling(0, max_tokens=24, top_logprobs=1))
    text, exact = b"", models(*members)
    for token in made.logprobs:
        mixture = 0.4 * exact[0].next(text) + 0.6 * exact[1].next(text)
        best = int(mixture.argmax())
        if method != "safe":  # which tells the main member's own where it did not fuse
            assert token.logprob == pytest.approx(float(mixture[best].log()), abs=2e-3)
        text += bytes([best])
    assert made.text == text.decode(errors="replace").rstrip("\ufffd")
