"""The embedder, with the real MiniLM where the extra and its weights are here."""

from pathlib import Path

import numpy as np
import pytest

from eot.errors import WeightsError
from eot.settings import Settings
from local_models.embed import Embedder
from local_models.weights import on_disk
from scoring import Ballot, vote

pytestmark = [pytest.mark.torch, pytest.mark.llm]
pytest.importorskip("sentence_transformers", reason="needs the extra eot[embed]")


@pytest.fixture(scope="module")
def minilm():
    folder = on_disk("all-minilm-l6-v2", Settings().home)
    if folder is None:
        pytest.skip("all-minilm-l6-v2 is not on disk: eot models pull all-minilm-l6-v2")
    return Embedder(folder)


def test_texts_become_unit_vectors_and_alike_ones_lie_near(minilm):
    vectors = minilm(["A cat sat on the mat.", "A kitten was sitting on a rug.", "Interest rates rose again."])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.5
    assert cosines[0, 2] < 0.2


def test_a_text_is_embedded_once_and_in_any_order(minilm):
    first = minilm(["one", "two", "one"])
    again = minilm(["two", "one"])
    assert (first[0] == first[2]).all()
    assert (again == first[[1, 0]]).all()


def test_texts_that_no_tokenizer_takes_still_get_a_vector(minilm):
    assert np.isfinite(minilm(["\ud800", "", "x" * 100_000])).all()


def test_the_embedding_vote_prefers_the_meaning_that_most_share(minilm):
    texts = ["Paris is the capital of France.", "France's capital city is Paris.", "Cheese is made of milk."]
    verdict = vote(
        [Ballot(str(at), text, text) for at, text in enumerate(texts)], method="sum", kind="open", embed=minilm
    )
    assert verdict.agent in ("0", "1")
    assert verdict.signals == ("emb_a_s", "word_a_f", "char_a_f")


def test_a_folder_without_a_model_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match="there is no folder"):
        Embedder(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=str(tmp_path)):
        Embedder(tmp_path)(["a"])
