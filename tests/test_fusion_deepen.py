"""DeePEn's arithmetic: the relative space, the way back, and what of the released recipe does not hold."""

import numpy as np
import pytest

from eot.errors import InputError
from eot.fusion import FusionSettings

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
from fusion_models import byte_level, sentence_piece  # noqa: E402

from local_models.fusion.deepen import Deepen, adamw, em, gradient  # noqa: E402
from local_models.fusion.relative import Dense, ReleasedRows, Sparse, SparseRows, anchors_of  # noqa: E402
from local_models.fusion.vocabulary import END, Vocabulary  # noqa: E402

pytestmark = pytest.mark.torch


def vocabularies(*tokenizers):
    return [Vocabulary(tokenizer, frozenset([0]), f"m{place}") for place, tokenizer in enumerate(tokenizers)]


def embedding(size, width, seed, mean=0.0):
    """Random rows; with a `mean` they all point one way, as those of trained models do."""
    torch.manual_seed(seed)
    return torch.randn(size, width) + mean


def deepen(words, embeddings, shares=(0.5, 0.5), **keys):
    names = tuple(one.name for one in words)
    return Deepen(words, shares, FusionSettings(members=names, method="deepen", **keys), embeddings)


def row(words, seed, sharp=3.0):
    torch.manual_seed(seed)
    return words.folded(torch.randn(len(words.pieces)) * sharp)


def spread_out(ballot, words):
    """The fused distribution over the main member's places: V+1."""
    places = [len(words.pieces) if piece == END else words.ids[piece] for piece in ballot.pieces]
    return torch.zeros(len(words.surfaces)).index_add(0, torch.tensor(places), ballot.fused.exp())


def test_anchors_by_what_they_write_are_more_than_those_by_their_keys():
    """As released keys are compared: a byte-level key of Chinese never equals a SentencePiece one."""
    words = vocabularies(byte_level(600), sentence_piece())
    by = {name: anchors_of(words, name) for name in ("bytes", "keys")}
    written = [{words[0].surfaces[token] for token in by[name][0].tolist()} for name in ("bytes", "keys")]
    for first, other in zip(*by["bytes"], strict=True):
        assert words[0].surfaces[first] == words[1].surfaces[other]
    assert "好".encode() in written[0]
    assert "好".encode() not in written[1]
    assert END in written[0]
    assert len(written[0]) > len(written[1])


def test_a_sparse_row_is_the_softmax_of_a_hundred_cosines_over_the_nearest_anchors():
    table, anchors = embedding(12, 5, 0), torch.tensor([0, 2, 4, 6, 8, 12])
    rows = SparseRows(table, anchors, 3)
    spread = rows.of(torch.tensor([4, 5, 12]))
    dense = torch.stack([spread.forward(one) for one in torch.eye(3)])
    assert dense[0].tolist() == [0, 0, 1, 0, 0, 0]  # an anchor stands for itself
    assert dense[2].tolist() == [0, 0, 0, 0, 0, 1]  # so does the end
    unit = table.numpy() / np.linalg.norm(table.numpy(), axis=1, keepdims=True)
    cosines = unit[[0, 2, 4, 6, 8]] @ unit[5]
    kept = np.argsort(-cosines)[:3]
    weights = np.exp(100 * (cosines[kept] - cosines.max()))
    expected = np.zeros(6)
    expected[kept] = weights / weights.sum()
    assert dense[1].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    back = torch.rand(6)
    torch.testing.assert_close(spread.backward(back), dense @ back)


def test_rows_are_made_once_and_the_same_whoever_asks_with_them():
    table, anchors = embedding(400, 16, 1), torch.arange(0, 400, 3)
    alone = SparseRows(table, anchors, 8, ahead=0)
    together = SparseRows(table, anchors, 8, ahead=50)
    whole = together.of(torch.arange(400))
    weights = torch.zeros(400)
    for token in (7, 3, 7, 200):
        weights.zero_()[token] = 1
        torch.testing.assert_close(alone.of(torch.tensor([token])).forward(torch.ones(1)), whole.forward(weights))


def test_a_search_in_eight_bits_finds_the_neighbours_that_matter():
    table, anchors = embedding(4000, 64, 5, mean=0.5), torch.arange(0, 4000, 2)
    others = torch.arange(1, 400, 2)
    rows = SparseRows(table, anchors, 16, ahead=100)
    found = torch.stack([rows.of(others).forward(one) for one in torch.eye(len(others))])
    unit = torch.nn.functional.normalize(table, dim=-1)
    cosines, places = (unit[others] @ unit[anchors].T).topk(16)
    exact = torch.zeros_like(found).scatter(1, places, (100 * cosines).softmax(-1))
    assert float((found - exact).abs().sum(-1).max()) < 1e-3


def test_the_released_second_normalisation_leaves_rows_flat_where_embeddings_point_one_way():
    """The released matrix: cosines over their row's length, then softmax(100 x). Its anchors' own rows say nothing."""
    table, anchors = embedding(3000, 32, 2, mean=0.7), torch.arange(0, 3000, 2)
    cosines = torch.nn.functional.normalize(table, dim=-1)
    assert 0.2 < float((cosines @ cosines.T).mean()) < 0.48  # as of the three models that were measured
    found = {}
    for normalised in (True, False):
        rows = ReleasedRows(table, anchors, normalised=normalised).of(anchors)
        own = torch.stack([rows.forward(one) for one in torch.eye(len(anchors))[:50]])
        entropy = -(own * own.clamp(min=1e-30).log()).sum(-1)
        found[normalised] = own.max(-1).values.median().item(), entropy.exp().median().item()
    best, support = found[True]
    assert best < 0.1
    assert support > 0.5 * len(anchors)
    best, support = found[False]
    assert best > 0.99
    assert support < 1.5


def test_a_released_matrix_that_would_not_fit_says_its_size_and_what_would():
    with pytest.raises(InputError, match=r"takes 48\.4 GB; rows = 'sparse' takes 30 MB"):
        ReleasedRows(torch.empty(262_144, 640), torch.arange(46_145))


@pytest.mark.parametrize("inverse", ["em", "adamw"])
@pytest.mark.parametrize("rows", ["sparse", "released"])
def test_members_that_agree_change_nothing(inverse, rows):
    words = vocabularies(byte_level(), byte_level())
    table, own = embedding(300, 24, 3), row(vocabularies(byte_level())[0], 4)
    fused = spread_out(
        deepen(words, [table, table], inverse=inverse, rows=rows, keep=301, floor=0)([own, own]), words[0]
    )
    atol = 1e-5 if inverse == "em" else 0.03  # AdamW moves on rounding errors too, and decays the logits
    torch.testing.assert_close(fused, own.exp(), atol=atol, rtol=0)


def test_where_all_tokens_are_anchors_em_gives_the_arithmetic_mean():
    words = vocabularies(byte_level(), byte_level())
    mute = [token for token, piece in enumerate(words[0].pieces) if piece]
    rows = [row(words[0], 5), row(words[1], 6)]
    method = deepen(words, [embedding(300, 24, 7), embedding(300, 24, 8)], (0.3, 0.7), keep=301, floor=0, iterations=50)
    got = spread_out(method(rows), words[0])[mute]
    torch.testing.assert_close(got, (0.3 * rows[0].exp() + 0.7 * rows[1].exp())[mute], atol=1e-3, rtol=0)


def test_em_never_moves_away_from_the_target():
    torch.manual_seed(9)
    places, values = torch.randint(0, 40, (30, 4)), torch.rand(30, 4).softmax(-1)
    spread, target = Sparse(places, values, 40), torch.rand(40).softmax(-1)
    p, last = torch.ones(30) / 30, np.inf
    for _ in range(30):
        p = em(p, spread, target, 1)
        reached = spread.forward(p)
        seen = reached > 0
        loss = float((target[seen] * (target[seen] / reached[seen]).log()).sum())
        assert loss <= last + 1e-6
        last = loss
    assert float(p.sum()) == pytest.approx(1)


def test_the_gradient_is_what_automatic_differentiation_says():
    torch.manual_seed(10)
    matrix, target = torch.rand(20, 15).softmax(-1), torch.rand(15).softmax(-1)
    logits = torch.randn(20, requires_grad=True)
    (torch.nn.KLDivLoss(reduction="sum")((logits.softmax(-1) @ matrix).log(), target) / 15).backward()
    got = gradient(logits.detach().softmax(-1), Dense(matrix), target)
    torch.testing.assert_close(got, logits.grad)


def test_adamw_as_released_moves_no_logit_further_than_its_learning_rates_add_up_to():
    """Five steps of eta, cosine to a quarter: 4.5 eta in all. A token that the main member rules out stays out."""
    torch.manual_seed(11)
    start, target = torch.randn(50).log_softmax(-1), torch.rand(50).softmax(-1)
    start[0] -= 12
    target[0] = 10.0
    eye = Dense(torch.eye(50))
    moved = adamw(start, eye, target / target.sum(), 5, 0.15)
    gap = (moved - start) - (moved - start).median()
    assert float(gap.abs().max()) < 2 * 4.5 * 0.15 + 0.1
    assert int(moved.argmax()) != 0
    assert int(em(start.exp(), eye, target / target.sum(), 5).argmax()) == 0


def test_members_without_a_common_token_are_refused():
    words = vocabularies(byte_level(), sentence_piece())
    words[1].__dict__["ids"] = {}
    with pytest.raises(InputError, match="m0 and m1 have no token in common"):
        anchors_of(words, "bytes")
