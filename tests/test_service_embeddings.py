"""Embeddings over a real socket, with the model of the vote, and without it."""

import base64
import struct
from pathlib import Path

import httpx
import pytest
from serving import serving, settings
from weights import weights


def ask(url, **body):
    return httpx.post(f"{url}/v1/embeddings", json={"model": "x", **body}, timeout=120)


def test_without_the_votes_model_the_answer_says_what_is_missing(tmp_path):
    with serving(settings(tmp_path)) as served:
        answer = ask(served.url, input="a")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] in ("weights_missing", "not_installed")
    assert "all-minilm-l6-v2" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("texts", "status"), [([], 422), ("", 400), (["a", "\0"], 400), ("x" * 200_001, 400)])
def test_what_cannot_be_embedded_is_refused(tmp_path, texts, status):
    with serving(settings(tmp_path)) as served:
        assert ask(served.url, input=texts).status_code == status


@pytest.mark.torch
@pytest.mark.llm
def test_texts_become_vectors_in_either_encoding(tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs the extra eot[embed]")
    folder = str(weights("all-minilm-l6-v2"))
    with serving(settings(tmp_path, embed={"model": folder})) as served:
        told = ask(served.url, input=["A dog barks.", "A dog barks.", "Tax law."]).json()
        coded = ask(served.url, input="A dog barks.", encoding_format="base64").json()
    first, same, other = (row["embedding"] for row in told["data"])
    assert [row["index"] for row in told["data"]] == [0, 1, 2]
    assert sum(x * y for x, y in zip(first, same, strict=True)) == pytest.approx(1, abs=1e-4)
    assert sum(x * y for x, y in zip(first, other, strict=True)) < 0.5
    packed = base64.b64decode(coded["data"][0]["embedding"])
    assert struct.unpack(f"<{len(packed) // 4}f", packed) == pytest.approx(first, abs=1e-6)
    assert told["model"] == Path(folder).name
