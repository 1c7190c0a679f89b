"""`eot models moe` as a user runs it, on tiny models: built, trained with a report, explained, changed."""

import json

import pytest
from command import eot

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")
from moe_models import branch, dense, loaded, logits, with_tokenizer  # noqa: E402  (it imports torch)

pytestmark = pytest.mark.torch


@pytest.fixture
def texts(tmp_path):
    """Two domains that a tiny model can tell apart: words of other letters."""
    for name, words in (("low", ["cat", "bad", "dab", "ace"]), ("high", ["sum", "torn", "pry", "zoo"])):
        rows = [" ".join(words[(at * step) % 4] for at in range(60)) for step in range(1, 30)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return tmp_path


def small(folder):
    base = dense("llama", folder, vocab_size=300, num_hidden_layers=2)
    with_tokenizer(folder)
    return base


def test_a_mixture_is_trained_from_corpora_reported_drawn_and_explained(texts):
    small(texts / "base")
    words = ("models", "moe", "train", "./base", "--corpus", "low=low.jsonl", "--corpus", "high=high.jsonl",
             "--tokens", "960", "--router-tokens", "320", "--window", "32", "--held", "128",
             "--rate", "0.01")  # fmt: skip
    done = eot(texts, *words, "--out", "mixed", "--json", "--progress", "told.jsonl")
    assert done.returncode == 0, done.stderr
    found = {line["system"]: line for line in json.loads(done.stdout)["systems"]}
    assert found["branch low"]["losses"]["low"] < found["base"]["losses"]["low"]
    assert found["router trained, 2 active"]["own"] > 0.4
    for name in ("losses.png", "specialisation.png", "curves.png"):
        assert (texts / "mixed" / name).read_bytes().startswith(b"\x89PNG")
    told = [json.loads(line) for line in (texts / "told.jsonl").read_text().splitlines()]
    assert {"branch low", "branch high", "router"} <= {one["stage"] for one in told}
    assert {path.name for path in texts.iterdir()} == {
        "base", "low.jsonl", "high.jsonl", "mixed", "told.jsonl"
    }  # fmt: skip
    done = eot(texts, "models", "moe", "explain", "./mixed", "cat sum", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["names"], len(said["load"])) == (["low", "high"], 2)
    assert "".join(said["tokens"]) == "cat sum"
    shown = eot(texts, "models", "moe", "explain", "./mixed", "cat sum", "--layer", "1")
    assert "weight of each expert for each token, in layer 1" in shown.stdout
    refused = eot(texts, "models", "moe", "explain", "./mixed", "cat", "--layer", "9")
    assert (refused.returncode, "no layer 9" in refused.stderr) == (2, True)


def test_a_mixture_is_built_by_name_and_an_expert_is_added_and_dropped(texts):
    base = small(texts / "base")
    for at, name in enumerate(("one", "two", "three")):
        branch(base, texts / name, at)
        with_tokenizer(texts / name)
    done = eot(texts, "models", "moe", "build", "./base", "./one", "./two", "--name", "pair", "--active", "1",
               "--text", "low.jsonl", "--text", "high.jsonl")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((texts / "home" / "built" / "pair" / "moe.json").read_text())["gate"] == "ridge"
    assert 'model = "local/pair"' in done.stdout
    assert "34,464 parameters, 25,248 for a token" in done.stdout
    done = eot(texts, "models", "moe", "add", "pair", "./three", "--text", "low.jsonl", "--other", "high.jsonl",
               "--name", "trio", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["experts"] == ["one", "two", "three"]
    for given in (("./three", "./three"), ("./three", "three/../three"), ("three/.", "./one/../three")):
        done = eot(texts, "models", "moe", "build", "./base", *given, "--name", "same")
        assert (done.returncode, "are the same, or called the same" in " ".join(done.stderr.split())) == (2, True)
    done = eot(texts, "models", "moe", "drop", "trio", "three", "--name", "again")
    assert done.returncode == 0, done.stderr
    done = eot(texts, "models", "moe", "tune", "pair", "--corpus", "low=low.jsonl", "--corpus", "high=high.jsonl",
               "--train", "experts", "--tokens", "960", "--window", "32", "--held", "128", "--rate", "0.01",
               "--name", "tuned", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for domain in json.loads(done.stdout)["domains"]:
        assert domain["after"] < domain["before"] - 0.5
    built = texts / "home" / "built"
    assert torch.equal(logits(loaded(built / "again")), logits(loaded(built / "pair")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "./base", "--out", "m", "--active", "3", "--copies", "2"), "3 active of 2 experts"),
        (("build", "./base", "--out", "m"), "2 active of 1 expert:"),
        (("build", "./base", "--out", "m", "--copies", "2", "--gate", "ridge"), "made from a text for each of two"),
        (("build", "./base", "--out", "m", "--copies", "2", "--text", "low.jsonl"), "made from a text for each of two"),
        (
            ("build", "./base", "--out", "m", "--copies", "2", "--gate", "zero", "--text", "low.jsonl"),
            "a zero gate is made from no text",
        ),
        (("build", "./base", "--copies", "2"), "say where the model is to go"),
        (("train", "./base", "--out", "m", "--corpus", "low=low.jsonl"), "two domains at least"),
        (("train", "./base", "--out", "m", "--corpus", "low.jsonl"), "write NAME=FILE"),
        (("explain", "./base", "cat"), "is no mixture of experts"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(texts, words, said):
    small(texts / "base")
    done = eot(texts, "models", "moe", *words)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
