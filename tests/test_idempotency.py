"""`Idempotency-Key`: sent again, answered again, paid once."""

import asyncio
import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from chat_server import serving as upstream
from serving import serving, settings

from api.http import idempotency
from api.store import Answer

# LiteLLM 1.105 has types, and reads fields, in ways that pydantic 2.11 and later warn of: theirs to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
]

CHAT = {"model": "agent/one", "messages": [{"role": "user", "content": "What is 3 + 4?"}]}


@pytest.fixture
def asked(tmp_path):
    """A server with one agent upstream, and a function that asks it under a key."""
    with upstream(lambda number, _: f"The answer is {number}.") as llm:
        agents = {"one": {"model": "openai/m", "base_url": llm.url}}
        with serving(settings(tmp_path, agents=agents)) as served:

            def ask(key, path="/v1/chat/completions", **more):
                headers = {} if key is None else {"idempotency-key": key}
                return httpx.post(served.url + path, json=CHAT | more, headers=headers, timeout=30)

            ask.llm, ask.served = llm, served
            yield ask


def test_the_same_request_is_answered_the_same_and_paid_once(asked):
    first, again, other = asked("k1"), asked("k1"), asked("k2")
    assert first.status_code == 200
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert other.json()["id"] != first.json()["id"]
    assert len(asked.llm.bodies) == 2


def test_a_replay_says_where_the_run_is(asked):
    def begin():
        body = {"question": "What is 3 + 4?", "council": {"agents": ["one"]}}
        return httpx.post(f"{asked.served.url}/v1/runs", json=body, headers={"idempotency-key": "k"})

    first, again = begin(), begin()
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["location"] == first.headers["location"] == f"/v1/runs/{first.json()['id']}"


def test_without_the_header_nothing_is_kept(asked):
    assert asked(None).json()["id"] != asked(None).json()["id"]


def test_another_request_under_the_key_is_refused(asked):
    asked("k")
    for wrong in (asked("k", seed=1), asked("k", path="/v1/models")):
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_while_the_first_is_under_way_the_second_is_told_so(asked):
    go, begun = threading.Event(), threading.Event()

    def slow(number, _):
        begun.set()
        go.wait(20)
        return f"The answer is {number}."

    asked.llm.answer = slow
    with ThreadPoolExecutor(1) as one:
        first = one.submit(asked, "k")
        assert begun.wait(20)
        busy = asked("k")
        reused = asked("k", seed=1)
        go.set()
        assert first.result().status_code == 200
    assert (busy.status_code, busy.headers["retry-after"]) == (409, "1")
    assert busy.json()["error"]["code"] == "idempotency_in_progress"
    assert reused.status_code == 422
    assert asked("k").content == first.result().content


def test_a_stream_is_told_again_whole(asked):
    first, again = asked("k", stream=True), asked("k", stream=True)
    assert first.content.endswith(b"data: [DONE]\n\n")
    assert again.content == first.content
    assert again.headers["content-type"].startswith("text/event-stream")
    assert len(asked.llm.bodies) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_may_be_tried_again(asked, stream):
    asked.llm.answer = lambda *_: {"error": "no"}
    failed = asked("k", stream=stream)
    assert (failed.status_code, b'{"error":' in failed.content) == (200 if stream else 502, True)
    asked.llm.answer = lambda *_: "The answer is 7."
    again = asked("k", stream=stream)
    assert again.status_code == 200
    assert b'{"error":' not in again.content
    assert "idempotent-replayed" not in again.headers


def test_a_request_that_is_wrong_may_be_mended_under_its_key(asked):
    assert asked("k", model="nobody").status_code == 404
    assert asked("k").status_code == 200


def test_a_request_that_was_hung_up_on_may_be_tried_again(asked):
    asked.llm.answer = lambda *_: None
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{asked.served.url}/v1/chat/completions", json=CHAT, headers={"idempotency-key": "k"}, timeout=1.5)
    asked.llm.answer = lambda *_: "The answer is 7."
    for _ in range(50):
        if (again := asked("k")).status_code != 409:
            break
    assert again.status_code == 200


def test_a_claim_is_renewed_while_it_lives(asked, monkeypatch):
    monkeypatch.setattr(idempotency, "_LEASE", 0.6)
    go, begun = threading.Event(), threading.Event()

    def slow(number, _):
        begun.set()
        go.wait(20)
        return f"The answer is {number}."

    asked.llm.answer = slow
    with ThreadPoolExecutor(1) as one:
        first = one.submit(asked, "k")
        assert begun.wait(20)
        threading.Event().wait(1.5)
        assert asked("k").status_code == 409
        go.set()
        assert first.result().status_code == 200
    assert asked("k").content == first.result().content


def test_a_claim_of_a_process_that_died_runs_out(asked):
    name = hashlib.sha256(b"\nk").hexdigest()
    dead = asked.served.service.store.answers.save_new(Answer(id=name, body_hash="h"), time.time() + 1)
    asyncio.run_coroutine_threadsafe(dead, asked.served.loop).result(10)
    assert asked("k").status_code == 422
    threading.Event().wait(1.1)
    assert asked("k").status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_of_no_use_is_refused(asked, key):
    assert (asked(key).status_code, len(asked.llm.bodies)) == (400, 0)


def test_two_callers_may_use_one_word(asked):
    def made():
        work = asked.served.service.keyring.create("k")
        return asyncio.run_coroutine_threadsafe(work, asked.served.loop).result(10)[1]

    answers = []
    for key in (made(), made()):
        headers = {"idempotency-key": "k", "authorization": f"Bearer {key}"}
        answers.append(httpx.post(f"{asked.served.url}/v1/chat/completions", json=CHAT, headers=headers, timeout=30))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["id"] != answers[1].json()["id"]


def test_neither_the_key_nor_the_question_is_kept(asked, tmp_path):
    asked("canary-key", messages=[{"role": "user", "content": "canary-question"}])
    asked.served.stop()
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*.sqlite*"))
    assert b"canary" not in kept
    assert json.dumps("The answer is 0.")[1:-1].encode() in kept


def test_a_body_that_grows_too_large_is_refused_here_too(tmp_path):
    with serving(settings(tmp_path, serve={"max_body_mb": 1})) as served:
        try:
            answer = httpx.post(
                f"{served.url}/v1/chat/completions",
                content=(b" " * 65536 for _ in range(64)),
                headers={"idempotency-key": "k"},
            )
        except (httpx.WriteError, httpx.ReadError):
            return
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
