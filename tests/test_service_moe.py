"""`/v1/moe` over a real socket: what there is, which expert takes which token, and jobs that make new mixtures."""

import asyncio
import json
import time

import httpx
import pytest
from serving import serving, settings

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from moe_models import branch, dense, with_tokenizer  # noqa: E402  (it imports torch)

from eot.settings import MoeSettings  # noqa: E402
from local_models.moe.build import build, random_gate  # noqa: E402
from local_models.moe.recipe import recipe  # noqa: E402

pytestmark = pytest.mark.torch
SECONDS = 120


@pytest.fixture
def home(tmp_path):
    """A base, two branches and a mixture of them, made here."""
    base = dense("llama", tmp_path / "built" / "tiny", vocab_size=300, num_hidden_layers=2)
    branches = [branch(base, tmp_path / "built" / name, at) for at, name in enumerate(("low", "high", "new"))]
    for source in (base, *branches):
        with_tokenizer(source.folder)
    build(base, branches[:2], recipe(2, active=1), random_gate(2, 2, 32), tmp_path / "built" / "pair")
    return tmp_path


def served(home):
    agents = {"mixed": {"model": "moe/both", "max_tokens": 8}, "a": ["The answer is 7."]}
    return serving(settings(home, agents=agents, moes={"both": MoeSettings(model="pair")}))


def test_a_mixture_is_an_agent_is_listed_and_says_which_expert_took_which_token(home):
    with served(home) as running:
        models = [one["id"] for one in httpx.get(f"{running.url}/v1/models").json()["data"]]
        assert "agent/mixed" in models
        asked = {"model": "agent/mixed", "messages": [{"role": "user", "content": "the cat"}]}
        said = httpx.post(f"{running.url}/v1/chat/completions", json=asked, timeout=SECONDS)
        assert said.status_code == 200, said.text
        listed = {one["id"]: one for one in httpx.get(f"{running.url}/v1/moe").json()["data"]}
        assert set(listed) == {"both", "pair"}
        assert (listed["both"]["experts"], listed["both"]["active"]) == (["low", "high"], 1)
        assert listed["both"]["agents"] == ["mixed"]
        assert str(home) not in json.dumps(listed)
        told = httpx.post(f"{running.url}/v1/moe/both/explain", json={"text": "the cat sat"}, timeout=SECONDS).json()
        assert "".join(told["tokens"]) == "the cat sat"
        assert [sum(row) for row in told["taken"]] == pytest.approx([1] * len(told["tokens"]), abs=1e-3)
        assert sum(told["by_expert"]) == pytest.approx(1)
        assert len(told["load"]) == len(told["layers_experts"]) == 2
        unknown = httpx.post(f"{running.url}/v1/moe/bosh/explain", json={"text": "x"})
        assert unknown.status_code == 404
        assert "Did you mean 'both'?" in unknown.json()["error"]["message"]


def test_a_table_that_leads_nowhere_or_to_a_dense_model_is_told_as_its_fault(home):
    moes = {
        name: MoeSettings(model=model) for name, model in {"lost": "nowhere", "plain": "tiny", "both": "pair"}.items()
    }
    with serving(settings(home, moes=moes)) as running:
        found = {one["id"]: one["fault"] for one in httpx.get(f"{running.url}/v1/moe").json()["data"]}
        assert set(found) == {"lost", "plain", "both", "pair"}
        assert "nowhere" in found["lost"]
        assert found["plain"] == "tiny is no mixture of experts: its files name none"
        assert found["both"] == found["pair"] == ""


def until(url, job):
    ends = time.monotonic() + SECONDS
    while (now := httpx.get(f"{url}/v1/moe/builds/{job['id']}").json())["status"] in ("queued", "running"):
        assert time.monotonic() < ends, now
        time.sleep(0.2)
    return now


def made(running, body):
    job = httpx.post(f"{running.url}/v1/moe/builds", json=body)
    assert job.status_code == 202, job.text
    return until(running.url, job.json())


def test_mixtures_are_built_and_trained_as_jobs_in_processes_of_their_own(home):
    with served(home) as running:

        def brought(text):
            rows = "".join(json.dumps({"text": " ".join([text] * at)}) + "\n" for at in range(20, 50))
            files = {"file": ("t.jsonl", rows)}
            answer = httpx.post(f"{running.url}/v1/files", files=files, data={"purpose": "training"})
            assert answer.status_code == 200, answer.text
            return answer.json()["id"]

        low, high = brought("cat bad"), brought("sum torn")
        body = {"action": "build", "base": "tiny", "models": ["low", "high"], "model_name": "made", "active": 1,
                "texts": {"high": high, "low": low}}  # fmt: skip
        ended = made(running, body)
        assert (ended["status"], ended["error"]) == ("completed", "")
        assert httpx.get(f"{running.url}/v1/moe/made").json()["gate"] == "ridge"
        assert ended["result"]["experts"] == ["low", "high"]
        body = {"action": "train", "base": "tiny", "model_name": "grown", "corpora": {"low": low, "high": high},
                "tokens": 320, "router_tokens": 128, "window": 32, "held": 64}  # fmt: skip
        ended = made(running, body)
        assert (ended["status"], ended["error"]) == ("completed", "")
        assert ended["progress"]
        found = httpx.get(f"{running.url}/v1/moe/grown").json()
        assert [one["system"] for one in found["report"]][:2] == ["base", "weight average"]
        assert found["trained"] == ["router trained on 128 tokens"]
        body = {"action": "tune", "mixture": "grown", "model_name": "tuned", "corpora": {"low": low, "high": high},
                "train": "router", "tokens": 128, "window": 32, "held": 64}  # fmt: skip
        assert made(running, body)["error"] == ""
        assert httpx.get(f"{running.url}/v1/moe/tuned").json()["trained"] == ["router trained on 128 tokens"] * 2
        body = {"action": "add", "mixture": "made", "model": "new", "model_name": "three", "text_file_id": low,
                "other_file_ids": [high]}  # fmt: skip
        ended = made(running, body)
        assert (ended["error"], len(ended["result"]["experts"])) == ("", 3)
        ended = made(running, {"action": "drop", "mixture": "three", "expert": "0", "model_name": "two"})
        assert (ended["error"], ended["result"]["experts"]) == (
            "",
            httpx.get(f"{running.url}/v1/moe/three").json()["experts"][1:],
        )


@pytest.mark.parametrize(
    "wrong", [{"base": "/etc"}, {"base": "nobody"}, {"model_name": "--out"}, {"texts": {"zed": "f"}}, {"out": "x"}]
)
def test_a_job_names_no_path_and_no_option(home, wrong):
    with served(home) as running:
        body = {"action": "build", "base": "tiny", "models": ["low"], "model_name": "made"} | wrong
        assert httpx.post(f"{running.url}/v1/moe/builds", json=body).status_code in (404, 422)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"active": 3}, "3 active of 2 experts"),
        ({"active": 1}, "its router learns nothing"),
        ({"base": "pair"}, "these are of type mixtral"),
        ({"action": "build", "base": "pair", "corpora": None}, "these are of type mixtral"),
    ],
)
def test_a_job_that_cannot_end_in_a_mixture_is_not_taken_in(home, wrong, said):
    with served(home) as running:
        body = {"action": "train", "base": "tiny", "model_name": "made", "corpora": {"a": "f", "b": "g"}} | wrong
        body = {name: value for name, value in body.items() if value is not None}
        answer = httpx.post(f"{running.url}/v1/moe/builds", json=body)
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]
        assert httpx.get(f"{running.url}/v1/moe/builds").json()["data"] == []


def test_whatever_makes_models_needs_the_admin_scope(home):
    with served(home) as running:
        making = running.service.keyring.create("k", ("chat",))
        _, key = asyncio.run_coroutine_threadsafe(making, running.loop).result(10)
        head = {"authorization": f"Bearer {key}"}
        assert httpx.get(f"{running.url}/v1/moe", headers=head).status_code == 200
        assert httpx.get(f"{running.url}/v1/moe/builds", headers=head).status_code == 403
