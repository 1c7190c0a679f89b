"""Files and batches over a real socket: OpenAI's surface, and what ours adds to it."""

import asyncio
import json
import time

import httpx
import openai
import pytest
from redis_server import RedisServer
from serving import serving, settings

from api.keys import Keyring
from api.store import open_store


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    said = {"a": ["I count. The answer is 7."], "b": ["The answer is 7."], "c": ["The answer is 8."]}
    with serving(settings(tmp_path_factory.mktemp("home"), agents=said)) as served:
        yield served.url


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def chat_line(name, text="How many?", **body):
    told = {"model": "eot/default", "messages": [{"role": "user", "content": text}]} | body
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": told}


def brought(client, rows, name="in.jsonl"):
    content = rows if isinstance(rows, bytes) else "".join(json.dumps(row) + "\n" for row in rows).encode()
    return client.files.create(file=(name, content), purpose="batch")


def until_ended(client, batch, seconds=30):
    ends = time.monotonic() + seconds
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() < ends, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def rows_of(client, file):
    return [json.loads(line) for line in client.files.content(file).text.splitlines()] if file else []


def test_a_batch_of_chats_goes_through_the_openai_sdk(client):
    file = brought(client, [chat_line(f"q{k}", f"How many are {k}?") for k in range(8)])
    assert (file.purpose, file.filename, file.status) == ("batch", "in.jsonl", "processed")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"for": "a test"},
    )
    assert batch.status == "validating"
    ended = until_ended(client, batch)
    assert ended.status == "completed"
    assert ended.metadata == {"for": "a test"}
    assert (ended.request_counts.total, ended.request_counts.completed, ended.request_counts.failed) == (8, 8, 0)
    assert ended.created_at <= ended.in_progress_at <= ended.finalizing_at <= ended.completed_at
    assert ended.expires_at == ended.created_at + 86_400
    assert ended.usage.total_tokens == ended.usage.input_tokens + ended.usage.output_tokens > 0
    assert ended.error_file_id is None
    rows = rows_of(client, ended.output_file_id)
    assert [row["custom_id"] for row in rows] == [f"q{k}" for k in range(8)]
    completion = rows[3]["response"]["body"]
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"]["content"].endswith("The answer is 7.")
    assert completion["eot"]["answer"] == "7"
    told = client.batches.retrieve(ended.id).model_extra["eot"]
    assert told["spent"]["calls"] >= 8 * 2
    assert told["estimate"]["calls_least"] <= told["spent"]["calls"] <= told["estimate"]["calls_most"]
    assert told["estimate"]["usd_most"] == 0


def test_a_batch_of_runs_brings_whole_results(client):
    lines = [
        {"custom_id": "x", "method": "POST", "url": "/v1/runs", "body": {"question": "How many?"}},
        {"custom_id": "y", "method": "POST", "url": "/v1/runs", "body": {"question": "Why?", "council": {"rounds": 0}}},
    ]
    batch = client.batches.create(input_file_id=brought(client, lines).id, endpoint="/v1/runs", completion_window="1h")
    ended = until_ended(client, batch)
    rows = rows_of(client, ended.output_file_id)
    assert [row["custom_id"] for row in rows] == ["x", "y"]
    assert rows[0]["response"]["body"]["result"]["verdict"]["answer"] == "7"
    assert ended.usage.total_tokens > 0


def test_a_line_that_no_council_could_answer_fails_the_batch_with_its_number(client):
    lines = [chat_line("a"), chat_line("b", model="eot/nobody"), chat_line("a"), chat_line("c", temperature=9)]
    file = brought(client, lines)
    ended = until_ended(
        client,
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"),
    )
    assert ended.status == "failed"
    assert ended.failed_at
    assert [(fault.line, fault.code) for fault in ended.errors.data] == [
        (2, "invalid_request"),
        (3, "duplicate_custom_id"),
        (4, "invalid_request"),
    ]
    assert "nobody" in ended.errors.data[0].message
    assert (ended.output_file_id, ended.error_file_id) == (None, None)


def test_an_estimate_asks_nobody(url, client):
    file = brought(client, [chat_line(f"q{k}") for k in range(10)])
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions"}
    told = httpx.post(f"{url}/v1/batches/estimate", json=asked).json()
    assert (told["requests"], told["errors"]) == (10, None)
    assert 20 <= told["estimate"]["calls_least"] <= told["estimate"]["calls_most"]


def test_progress_is_told_until_the_end(url, client):
    file = brought(client, [chat_line(f"q{k}") for k in range(5)])
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    with httpx.stream("GET", f"{url}/v1/batches/{batch.id}/events", timeout=30) as told:
        assert told.headers["content-type"].startswith("text/event-stream")
        text = told.read().decode()
    events = [block.split("\n") for block in text.strip().split("\n\n")]
    assert events[-1][0] == "event: ended"
    assert {event[0] for event in events[:-1]} <= {"event: progress"}
    assert json.loads(events[-1][1].removeprefix("data: "))["request_counts"]["completed"] == 5


@pytest.mark.parametrize("when", ["validating", "in_progress"])
def test_a_batch_can_be_cancelled_once(url, client, when):
    slow = [chat_line(f"q{k}") for k in range(2000)]
    batch = client.batches.create(
        input_file_id=brought(client, slow).id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    while client.batches.retrieve(batch.id).status != when:
        time.sleep(0.01)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    ended = until_ended(client, batch)
    assert ended.status == "cancelled"
    assert client.batches.cancel(batch.id).status == "cancelled"
    counts = ended.request_counts
    lines = len(rows_of(client, ended.output_file_id)) + len(rows_of(client, ended.error_file_id))
    assert counts.completed + counts.failed == counts.total == lines
    assert counts.total in ((2000,) if when == "in_progress" else (0, 2000))


def test_a_completed_batch_cannot_be_cancelled(client):
    batch = client.batches.create(
        input_file_id=brought(client, [chat_line("q")]).id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    until_ended(client, batch)
    with pytest.raises(openai.ConflictError, match="completed"):
        client.batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"endpoint": "/v1/audio"}, "a batch can be for"),
        ({"completion_window": "a while"}, "completion_window"),
        ({"completion_window": "99d"}, "at most 30d"),
        ({"input_file_id": "file-none"}, "no such file"),
        ({"input_file_id": "\0"}, "no such file"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"eot": {"max_usd": -1}}, "greater than 0"),
        ({"eot": {"max_dollars": 1}}, "max_dollars"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_at_once(url, client, wrong, said):
    file = brought(client, [chat_line("q")])
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | wrong
    refused = httpx.post(f"{url}/v1/batches", json=asked)
    assert refused.status_code in (400, 404, 422)
    assert said in refused.json()["error"]["message"]


def test_files_are_listed_read_and_deleted(client):
    files = [brought(client, f"{k}".encode(), f"n{k}.jsonl") for k in range(3)]
    listed = [file.id for file in client.files.list(limit=2)]
    assert listed[:3] == [file.id for file in reversed(files)]
    assert {file.purpose for file in client.files.list(purpose="batch_output")} <= {"batch_output"}
    assert client.files.retrieve(files[1].id).bytes == 1
    assert client.files.content(files[1].id).read() == b"1"
    assert client.files.delete(files[1].id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(files[1].id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(files[1].id)


def test_a_file_of_another_kind_makes_no_batch(url, client):
    other = client.files.create(file=("a.jsonl", b"{}"), purpose="user_data")
    asked = {"input_file_id": other.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert httpx.post(f"{url}/v1/batches", json=asked).json()["error"]["code"] == "wrong_purpose"


def test_batches_are_listed(client):
    file = brought(client, [chat_line("q")])
    made = [
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h").id
        for _ in range(3)
    ]
    listed = client.batches.list(limit=2)
    assert [batch.id for batch in listed.data] == made[:0:-1]
    assert listed.has_more
    assert [batch.id for batch in client.batches.list(limit=1, after=made[1]).data] == made[:1]


def test_a_store_that_is_away_is_told_and_waited_for(tmp_path):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    (tmp_path / "redis").mkdir()
    with (
        RedisServer(tmp_path / "redis") as server,
        serving(settings(tmp_path, serve={"store": server.url})) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client,
    ):
        file = brought(client, [chat_line(f"q{k}") for k in range(400)])
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while client.batches.retrieve(batch.id).request_counts.completed < 20:
            time.sleep(0.02)
        server.kill()
        away = httpx.get(f"{served.url}/v1/batches/{batch.id}")
        ready = httpx.get(f"{served.url}/health/ready")
        time.sleep(1)
        server.start()
        ended = until_ended(client, batch, 60)
        names = [row["custom_id"] for row in rows_of(client, ended.output_file_id)]
    assert (away.status_code, away.json()["error"]["code"]) == (503, "store_down")
    assert away.headers["retry-after"] == "2"
    assert ready.status_code == 503
    assert names == [f"q{k}" for k in range(400)]


def test_a_stream_of_progress_whose_store_goes_away_ends_in_the_envelope(tmp_path):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    (tmp_path / "redis").mkdir()
    with (
        RedisServer(tmp_path / "redis") as server,
        serving(settings(tmp_path, agents={"slow": ["!hang"]}, serve={"store": server.url})) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client,
    ):
        file = brought(client, [chat_line("q")])
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        with httpx.stream("GET", f"{served.url}/v1/batches/{batch.id}/events", timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: progress"
            server.kill()
            *_, name, data, _ = lines
        server.start()
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "store_down"


async def keys_of(home, **scopes):
    store = open_store(None, home)
    made = {name: (await Keyring(store).create(name, [scope]))[1] for name, scope in scopes.items()}
    await store.close()
    return made


def test_another_keys_files_and_batches_are_not_there(tmp_path):
    keys = asyncio.run(keys_of(tmp_path, mine="batch", other="batch", chatter="chat"))
    with serving(settings(tmp_path)) as served:
        mine, other, chatter = (
            openai.OpenAI(base_url=f"{served.url}/v1", api_key=keys[name], max_retries=0)
            for name in ("mine", "other", "chatter")
        )
        file = brought(mine, [chat_line("q")])
        asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = until_ended(mine, mine.batches.create(**asked))
        for ask in (
            lambda: other.files.retrieve(file.id),
            lambda: other.files.content(batch.output_file_id),
            lambda: other.files.delete(file.id),
            lambda: other.batches.create(**asked),
            lambda: other.batches.retrieve(batch.id),
            lambda: other.batches.cancel(batch.id),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        assert (other.files.list().data, other.batches.list().data) == ([], [])
        with pytest.raises(openai.PermissionDeniedError):
            chatter.batches.list()
        assert len(rows_of(mine, batch.output_file_id)) == 1


def test_who_waits_is_answered_while_a_batch_is_in_work(tmp_path):
    wanted = settings(tmp_path, agents={"a": ["The answer is 7."]}, serve={"max_runs": 1, "jobs": 16})
    with serving(wanted) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        file = brought(client, [chat_line(f"q{k}") for k in range(1500)])
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while client.batches.retrieve(batch.id).request_counts.completed < 1:
            time.sleep(0.02)
        waits = []
        for _ in range(5):
            began = time.monotonic()
            body = {"model": "eot/default", "messages": [{"role": "user", "content": "How many?"}]}
            assert client.chat.completions.create(**body).choices
            waits.append(time.monotonic() - began)
        now = client.batches.retrieve(batch.id)
    assert now.request_counts.completed < 1500, "the batch was over before anybody waited"
    assert sorted(waits)[2] < 2


def test_a_server_that_was_killed_goes_on_with_its_batches(tmp_path):
    said = {"a": ["The answer is 7."], "b": ["The answer is 7."], "c": ["The answer is 7."]}
    wanted = settings(tmp_path, agents=said, serve={"jobs": 2})
    with serving(wanted) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        file = brought(client, [chat_line(f"q{k}") for k in range(300)])
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while client.batches.retrieve(batch.id).request_counts.completed < 10:
            time.sleep(0.02)
    with serving(wanted) as served, openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        ended = until_ended(client, batch)
        rows = rows_of(client, ended.output_file_id)
    assert ended.status == "completed"
    assert [row["custom_id"] for row in rows] == [f"q{k}" for k in range(300)]
