"""Keys: who may call, for what, and how much; and what a request without one gets."""

import asyncio
import json
import re
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from chat_server import serving as upstream
from command import eot, scripted
from serving import process, serving, settings

from api.keys import Keyring, is_loopback
from api.store import open_store
from eot.errors import InputError, UnknownNameError

# LiteLLM 1.105 has types, and reads fields, in ways that pydantic 2.11 and later warn of: theirs to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
]

CHAT = {"model": "eot/default", "messages": [{"role": "user", "content": "What is 3 + 4?"}]}


def bearer(key):
    return {"authorization": f"Bearer {key}"}


class Doors:
    """A served app and its keyring, from outside its event loop."""

    def __init__(self, served):
        self.served, self.url = served, served.url

    def key(self, *scopes, **caps):
        return self.made(*scopes, **caps)[1]

    def made(self, *scopes, **caps):
        return self.run(self.served.service.keyring.create("k", scopes or ("chat",), **caps))

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.served.loop).result(10)

    def chat(self, key, **more):
        return httpx.post(f"{self.url}/v1/chat/completions", json=CHAT, headers=bearer(key), **more)


@pytest.fixture
def doors(tmp_path):
    with serving(settings(tmp_path)) as served:
        yield Doors(served)


async def test_a_key_is_shown_once_and_kept_as_a_hash(tmp_path):
    store = open_store(None, tmp_path)
    keyring = Keyring(store)
    row, key = await keyring.create("laptop", ["chat", "batch"], max_usd=2.5)
    assert re.fullmatch(r"sk-eot-[0-9a-f]{12}-[\w-]{43}", key)
    caller = await keyring.caller(key)
    assert (caller.id, caller.name, caller.scopes, caller.max_usd) == (row.id, "laptop", ("chat", "batch"), 2.5)
    await store.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert row.id.encode() in kept
    assert key[-43:].encode() not in kept


async def test_only_the_whole_key_opens(tmp_path):
    store = open_store(None, tmp_path)
    keyring = Keyring(store)
    row, key = await keyring.create("k")
    for wrong in (
        "",
        "-",
        "sk-eot",
        key[:-1],
        key + "x",
        key.upper(),
        f"sk-eot-{row.id}-",
        f"sk-eot--{key[20:]}",
        row.hash,
    ):
        assert await keyring.caller(wrong) is None
    await store.close()


async def test_a_revoked_key_is_refused_and_the_doors_stay_shut(tmp_path):
    store = open_store(None, tmp_path)
    keyring = Keyring(store)
    assert not await keyring.exist()
    row, key = await keyring.create("k")
    await Keyring(store).revoke(row.id)
    with pytest.raises(UnknownNameError):
        await keyring.revoke("nobody")
    assert await Keyring(store).caller(key) is None
    assert await Keyring(store).exist()
    await store.close()


async def test_another_process_sees_a_revocation_within_two_seconds(tmp_path):
    store = open_store(None, tmp_path)
    theirs, ours = Keyring(store), Keyring(store)
    row, key = await ours.create("k")
    assert await theirs.caller(key)
    await ours.revoke(row.id)
    until = time.monotonic() + 4
    while await theirs.caller(key):
        assert time.monotonic() < until
    assert time.monotonic() > until - 4
    await store.close()


@pytest.mark.parametrize(
    "wrong", [{"scopes": ["root"]}, {"max_usd": 0}, {"max_usd": float("nan")}, {"requests_per_minute": -1}]
)
async def test_a_key_that_makes_no_sense_is_refused(tmp_path, wrong):
    store = open_store(None, tmp_path)
    with pytest.raises(InputError):
        await Keyring(store).create("k", **wrong)
    await store.close()


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_elsewhere(host, here):
    assert is_loopback(host) is here


def test_without_keys_this_machine_may_call(doors):
    assert httpx.post(f"{doors.url}/v1/chat/completions", json=CHAT).status_code == 200
    assert httpx.get(f"{doors.url}/metrics").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::1"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
    ],
)
def test_without_keys_a_page_of_another_site_may_not(doors, headers):
    refused = httpx.post(f"{doors.url}/v1/chat/completions", json=CHAT, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_local")


def test_with_a_key_every_route_but_health_needs_one(doors):
    key = doors.key("admin")
    paths = {route.path for route in doors.served.server.config.app.routes if hasattr(route, "path")}
    paths |= set(httpx.get(f"{doors.url}/openapi.json", headers=bearer(key)).json()["paths"])
    assert {"/v1/models", "/openapi.json", "/metrics"} <= paths
    for path in sorted(paths | {"/nothing", "/", "/docs", "//metrics", "/health/live/../../metrics"}):
        for method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS"):
            answer = httpx.request(method, doors.url + path)
            if path in ("/health/live", "/health/ready"):
                assert answer.status_code in (200, 405)
            elif path in ("/", "/icon.svg") or path.startswith("/assets/"):  # the page, which is the same for everybody
                assert answer.status_code in (200, 404, 405), (method, path)
            else:
                assert answer.status_code == 401, (method, path)
                assert method == "HEAD" or answer.json()["error"]["code"] == "invalid_api_key"
                assert answer.headers["x-request-id"]


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer sk-eot-nobody-x", "Basic {key}", "{key}", "Bearer x{key}"])
def test_what_is_no_key_is_refused(doors, sent):
    headers = {"authorization": sent.format(key=doors.key())}
    assert httpx.get(f"{doors.url}/v1/models", headers=headers).status_code == 401


def test_a_key_is_asked_for_before_the_body_is_read(doors):
    doors.key()
    with socket.create_connection(("127.0.0.1", doors.served.server.port), 5) as line:
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
        line.sendall(head.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 401")


def test_a_key_may_only_what_its_scopes_say(doors):
    chat, batch, admin = doors.key("chat"), doors.key("batch"), doors.key("admin")
    asked = {
        path: [httpx.get(doors.url + path, headers=bearer(key)).status_code for key in (chat, batch, admin)]
        for path in ("/v1/models", "/v1/batches/x", "/metrics", "/openapi.json")
    }
    assert asked["/v1/models"] == [200, 403, 200]
    assert asked["/metrics"] == [403, 403, 200]
    assert asked["/openapi.json"] == [200, 200, 200]
    assert asked["/v1/batches/x"][0] == 403
    assert 403 not in asked["/v1/batches/x"][1:]


def test_requests_are_counted_by_key_and_refused_past_the_cap(doors):
    key, other = doors.key(requests_per_minute=2), doors.key(requests_per_minute=2)
    first, second, third = (doors.chat(key) for _ in range(3))
    assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, third)] == ["1", "0", "0"]
    assert re.fullmatch(r"\d+\.\d\ds", first.headers["x-ratelimit-reset-requests"])
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert third.json()["error"]["type"] == "rate_limit_error"
    assert doors.chat(other).status_code == 200
    assert httpx.get(f"{doors.url}/v1/models", headers=bearer(key)).status_code == 200


def test_tokens_that_were_used_are_charged(doors):
    key = doors.key(tokens_per_minute=20)
    assert doors.chat(key).status_code == 200
    doors.run(doors.served.service.limits.close())
    refused = doors.chat(key)
    assert (refused.status_code, refused.headers["x-ratelimit-remaining-tokens"]) == (429, "0")
    assert "20 tokens a minute" in refused.json()["error"]["message"]


def test_money_that_is_spent_is_refused(doors):
    row, key = doors.made(max_usd=1.0)
    doors.run(doors.served.service.store.counters.add(f"key:{row.id}:usd", 0.9))
    assert doors.chat(key).status_code == 200
    doors.run(doors.served.service.store.counters.add(f"key:{row.id}:usd", 0.1))
    refused = doors.chat(key)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (402, "false")


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(tmp_path):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048577\r\n\r\n"
    with (
        serving(settings(tmp_path, serve={"max_body_mb": 1})) as served,
        socket.create_connection(("127.0.0.1", served.server.port), 5) as line,
    ):
        line.sendall(head)
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_grows_too_large_is_refused_on_the_way(tmp_path):
    sent = 0

    def pieces():
        nonlocal sent
        for _ in range(4096):
            sent += 65536
            yield b" " * 65536

    with serving(settings(tmp_path, serve={"max_body_mb": 1})) as served:
        try:
            answer = httpx.post(f"{served.url}/v1/chat/completions", content=pieces())
        except (httpx.WriteError, httpx.ReadError):  # it hung up while we were still sending
            answer = None
    assert answer is None or (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert sent < 64 * 2**20


def test_keys_are_managed_from_the_command_line(tmp_path):
    scripted(tmp_path, a=["The answer is 7."])
    made = json.loads(eot(tmp_path, "keys", "create", "laptop", "--scope", "batch", "--max-usd", "3", "--json").stdout)
    plain = eot(tmp_path, "keys", "create", "phone")
    assert re.fullmatch(r"sk-eot-[0-9a-f]{12}-[\w-]{43}\n", plain.stdout)
    assert "not shown again" in plain.stderr
    revoked = eot(tmp_path, "keys", "revoke", made["id"])
    assert revoked.stdout == f"revoked {made['id']} (laptop)\n"
    listed = {row["name"]: row for row in json.loads(eot(tmp_path, "keys", "list", "--json").stdout)}
    assert (listed["laptop"]["scopes"], listed["laptop"]["max_usd"], listed["laptop"]["spent_usd"]) == (["batch"], 3, 0)
    assert (bool(listed["laptop"]["revoked"]), listed["phone"]["revoked"]) == (True, None)
    shown = eot(tmp_path, "keys", "list").stdout + eot(tmp_path, "keys", "list", "--json").stdout
    assert made["key"] not in shown
    assert "hash" not in shown
    assert made["id"] in eot(tmp_path, "keys", "list", COLUMNS="60").stdout, "it can be copied from the narrowest list"
    assert eot(tmp_path, "keys", "revoke", "nobody").returncode == 2


def test_a_server_that_others_can_reach_wants_a_key(tmp_path):
    scripted(tmp_path, a=["The answer is 7."])
    refused = eot(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "eot keys create" in refused.stderr
    key = eot(tmp_path, "keys", "create", "k").stdout.strip()
    with process(tmp_path, "--host", "0.0.0.0") as started:
        url = started.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers=bearer(key)).status_code == 200
        with sqlite3.connect(tmp_path / "home" / "eot.sqlite") as base:
            tables = [name for (name,) in base.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                base.execute(f"delete from {table}")
        time.sleep(2.5)
        assert httpx.get(f"{url}/v1/models").status_code == 401


# A call that is stopped as it begins leaves LiteLLM with a coroutine that nobody awaits.
@pytest.mark.filterwarnings("ignore:coroutine 'OpenAIChatCompletion:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*OpenAIChatCompletion:pytest.PytestUnraisableExceptionWarning")
def test_a_key_stops_at_its_money_however_many_runs_it_has(tmp_path):
    """110 tokens at 10,000 dollars a million: 1.1 dollars a call. Without the cap it would be 4 runs of 12 calls."""
    prices = {"input_usd_per_million": 10_000, "output_usd_per_million": 10_000}
    with upstream(lambda number, _: f"The answer is {number}.") as llm:
        agents = {name: {"model": "openai/m", "base_url": llm.url, **prices} for name in "ab"}
        seats = {"default": {"agents": ["a", "b"], "stop": [], "rounds": 5, "vote": "majority"}}
        with serving(settings(tmp_path, agents=agents, councils=seats)) as served:
            doors = Doors(served)
            row, key = doors.made(max_usd=3.0)
            with ThreadPoolExecutor(4) as four:
                asked = list(four.map(lambda _: doors.chat(key, timeout=60), range(4)))
            doors.run(served.service.limits.close())
            spent = doors.run(served.service.keyring.spent(row.id))
            refused = doors.chat(key)
            cheap = doors.chat(doors.key(max_usd=100.0), timeout=60)
    assert {answer.status_code for answer in asked} <= {200, 402}, asked[0].text
    assert cheap.status_code == 200
    assert 3 <= spent < 3 + 8 * 1.1 + 0.01
    assert refused.status_code == 402


def test_runs_stop_at_their_keys_money_before_a_slow_store_has_said_so(tmp_path, monkeypatch):
    """1.1 dollars a call, 5 in all: two runs of two agents pass it by the four calls then under way at most."""
    prices = {"input_usd_per_million": 10_000, "output_usd_per_million": 10_000}
    with upstream(lambda number, _: f"The answer is {number}.") as llm:
        agents = {name: {"model": "openai/m", "base_url": llm.url, **prices} for name in "ab"}
        seats = {"default": {"agents": ["a", "b"], "stop": [], "rounds": 5, "vote": "majority"}}
        with serving(settings(tmp_path, agents=agents, councils=seats)) as served:
            doors = Doors(served)
            row, key = doors.made(max_usd=5.0)
            limits = served.service.limits
            add = limits._counters.add

            async def slowly(*of):
                await asyncio.sleep(1)
                return await add(*of)

            monkeypatch.setattr(limits._counters, "add", slowly)
            with ThreadPoolExecutor(2) as two:
                list(two.map(lambda _: doors.chat(key, timeout=60), range(2)))
            doors.run(limits.close())
            spent = doors.run(served.service.keyring.spent(row.id))
    assert 5 <= spent < 5 + 4 * 1.1 + 0.01


def batch(doors, key, count):
    rows = [{"custom_id": f"q{k}", "url": "/v1/chat/completions", "body": CHAT} for k in range(count)]
    file = {"file": ("in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))}
    brought = httpx.post(f"{doors.url}/v1/files", files=file, data={"purpose": "batch"}, headers=bearer(key)).json()
    asked = {"input_file_id": brought["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return httpx.post(f"{doors.url}/v1/batches", json=asked, headers=bearer(key)).json()["id"]


def test_a_batch_is_paced_by_its_keys_tokens_and_leaves_some_for_others(tmp_path):
    """A request is reckoned at 1,800 tokens and uses 30 or so: at 3,000 a minute one is in work at a time."""
    agents = {name: {"model": "scripted", "script": ["The answer is 7."], "max_tokens": 400} for name in "ab"}
    council = {"default": {"agents": ["a", "b"], "topology": "memory", "rounds": 0}}
    with serving(settings(tmp_path, agents=agents, councils=council)) as served:
        doors = Doors(served)
        row, key = doors.made("batch", "chat", tokens_per_minute=3000)
        levels = []

        async def level():
            taken = await served.service.store.counters.take(f"key:{row.id}:tokens", 0, 3000)
            levels.append(taken.remaining)
            return taken

        id_ = batch(doors, key, 6)
        ends = time.monotonic() + 30
        while (told := httpx.get(f"{doors.url}/v1/batches/{id_}", headers=bearer(key)).json())["status"] != "completed":
            doors.run(level())
            assert time.monotonic() < ends, told
            time.sleep(0.02)
        assert doors.chat(key).status_code == 200
        doors.run(served.service.limits.close())
        doors.run(level())
    assert told["request_counts"] == {"total": 6, "completed": 6, "failed": 0}
    assert min(levels) > 3000 * 0.2 - 100  # it was never overdrawn: whoever asks in between is answered
    assert levels[-1] < 3000  # and what was used is charged


def test_a_batch_waits_until_its_keys_window_has_refilled(tmp_path):
    with serving(settings(tmp_path)) as served:
        doors = Doors(served)
        row, key = doors.made("batch", tokens_per_minute=60_000)
        doors.run(served.service.store.counters.take(f"key:{row.id}:tokens", 50_000, 60_000, force=True))
        began, id_ = time.monotonic(), batch(doors, key, 1)
        ends = began + 60
        while httpx.get(f"{doors.url}/v1/batches/{id_}", headers=bearer(key)).json()["status"] != "completed":
            assert time.monotonic() < ends
            time.sleep(0.1)
    assert time.monotonic() - began > 2
