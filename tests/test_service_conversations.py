"""The page's history over a real socket: a tree of questions, kept, searched, exported; and the page's own files."""

import asyncio

import httpx
import pytest
from redis_server import RedisServer
from serving import serving, settings

from api.store.sqlite import SqliteDocuments

LINE = "<img src=x onerror=alert(1)> ~~~~ The answer is 7."


@pytest.fixture
def client(tmp_path):
    scripts = {"a": [LINE], "b": ["The answer is 7."], "c": ["The answer is 8."]}
    with serving(settings(tmp_path, agents=scripts)) as on, httpx.Client(base_url=on.url, timeout=20) as client:
        yield client


def begun(client, conversation, **more):
    found = client.post(f"/v1/conversations/{conversation}/runs", json=more)
    assert found.status_code == 202, found.text
    ended = client.get(f"/v1/runs/{found.json()['run']}", params={"wait": 10}).json()
    assert ended["status"] == "completed", ended
    return found.json()["run"]


def asked(client, text="What is 3 + 4?", **more):
    made = client.post("/v1/conversations", json={}).json()["id"]
    return made, begun(client, made, question={"text": text}, **more)


def test_a_conversation_is_a_tree_of_questions_and_runs(client):
    conversation, first = asked(client)
    tree = client.get(f"/v1/conversations/{conversation}").json()
    assert tree["title"] == "What is 3 + 4?"
    again = begun(client, conversation, asked=tree["asked"][0]["id"], seed=3)
    follow = begun(client, conversation, parent=again, question={"text": "And twice that?"})
    instead = begun(client, conversation, question={"text": "What is 4 + 4?"})
    tree = client.get(f"/v1/conversations/{conversation}").json()
    assert [(each["parent"], each["runs"]) for each in tree["asked"]] == [
        (None, [first, again]),
        (again, [follow]),
        (None, [instead]),
    ]


def test_what_was_said_before_goes_along_as_context(client):
    conversation, first = asked(client)
    follow = begun(client, conversation, parent=first, question={"text": "And twice that?"})
    request = client.get(f"/v1/runs/{follow}").json()["request"]
    assert "What is 3 + 4?" in request["question"]["context"]
    assert "The answer is 7." in request["question"]["context"]
    assert client.get(f"/v1/runs/{first}").json()["request"]["question"]["context"] == ""


def test_search_finds_titles_questions_and_answers(client):
    first, _ = asked(client, "What is 3 + 4?")
    second, _ = asked(client, "Wie viel ist drei und vier?")
    client.patch(f"/v1/conversations/{second}", json={"title": "Überlegung"})

    def found(q):
        return [row["id"] for row in client.get("/v1/conversations", params={"q": q}).json()["data"]]

    assert found("") == [second, first]
    assert found("ÜBERLEGUNG") == [second]
    assert found("drei UND vier") == [second]
    assert found("the answer is 7") == [second, first]
    assert found("nowhere said") == []


def test_search_shows_where_the_words_stand_and_reads_answers_at_one_go(client, monkeypatch):
    for text in ("What is 3 + 4?", "And five plus two?"):
        asked(client, text)
    trips = []

    async def counted(self, kind, ids, real=SqliteDocuments.several):
        trips.append(len(ids))
        return await real(self, kind, ids)

    monkeypatch.setattr(SqliteDocuments, "several", counted)
    rows = client.get("/v1/conversations", params={"q": "answer  IS 7"}).json()["data"]
    assert all("answer is 7" in row["found"] for row in rows)
    assert trips == [2]
    assert [row["found"] for row in client.get("/v1/conversations", params={"q": "FIVE"}).json()["data"]] == [""]
    assert trips == [2, 1]


def test_a_deleted_conversation_takes_its_runs_along(client):
    conversation, run = asked(client)
    assert client.delete(f"/v1/conversations/{conversation}").json()["deleted"] is True
    assert client.get(f"/v1/conversations/{conversation}").status_code == 404
    assert client.get(f"/v1/runs/{run}").status_code == 404


def test_an_export_has_everything_and_its_markdown_is_inert(client):
    conversation, run = asked(client, "What is <b>3 + 4</b>?")
    as_json = client.get(f"/v1/conversations/{conversation}/export")
    assert as_json.json()["runs"][run]["result"]["verdict"]["answer"] == "7"
    assert "attachment" in as_json.headers["content-disposition"]
    text = client.get(f"/v1/conversations/{conversation}/export", params={"format": "markdown"}).text
    outside, fence = [], None
    for line in text.splitlines():
        if fence is None and line.startswith("~~~"):
            fence = line.removesuffix("text")
        elif line == fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert LINE in text
    assert "<" not in "\n".join(outside)


@pytest.fixture
def redis_url(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running.url


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_history_survives_a_restart(tmp_path, backend, request):
    serve = {"store": request.getfixturevalue("redis_url")} if backend == "redis" else {}
    with serving(settings(tmp_path, serve=serve)) as on, httpx.Client(base_url=on.url) as client:
        conversation, run = asked(client)
    with serving(settings(tmp_path, serve=serve)) as on, httpx.Client(base_url=on.url) as client:
        assert client.get(f"/v1/conversations/{conversation}").json()["asked"][0]["runs"] == [run]
        assert '"type":"verdict_reached"' in client.get(f"/v1/runs/{run}/events").text


def test_others_conversations_do_not_exist(tmp_path):
    with serving(settings(tmp_path)) as on:
        keys = [made(on, name) for name in ("one", "two")]
        mine, yours = (httpx.Client(base_url=on.url, headers={"authorization": f"Bearer {key}"}) for key in keys)
        with mine, yours:
            conversation, _ = asked(mine)
            assert yours.get("/v1/conversations").json()["data"] == []
            for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/export")):
                assert yours.request(method, f"/v1/conversations/{conversation}{path}").status_code == 404
            body = {"question": {"text": "What is 1 + 1?"}}
            assert yours.post(f"/v1/conversations/{conversation}/runs", json=body).status_code == 404


def made(on, name):
    return asyncio.run_coroutine_threadsafe(on.service.keyring.create(name), on.loop).result(10)[1]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"asked": "q_none"}, 404),
        ({"parent": "run_none", "question": {"text": "Why?"}}, 404),
        ({"question": {"text": " "}}, 400),
        ({"question": {"text": "Why?"}, "council": "none"}, 404),
        ({"question": {"text": "Why?"}, "more": 1}, 422),
    ],
)
def test_what_cannot_be_asked_is_refused_in_the_envelope(client, body, status):
    conversation = client.post("/v1/conversations", json={}).json()["id"]
    found = client.post(f"/v1/conversations/{conversation}/runs", json=body)
    assert (found.status_code, "message" in found.json()["error"]) == (status, True)
    assert client.get(f"/v1/conversations/{conversation}").json()["asked"] == []


@pytest.mark.parametrize(
    ("scripts", "effect"),
    [
        ({"a": ["The answer is 8.", "The answer is 7."], "b": ["The answer is 8.", "The answer is 7."]}, "mended"),
        ({"a": ["The answer is 7.", "The answer is 8."], "b": ["The answer is 7.", "The answer is 8."]}, "broke"),
        ({"a": ["The answer is 7."], "b": ["The answer is 7."]}, "nothing"),
    ],
)
def test_a_gold_answer_says_what_the_exchange_did(tmp_path, scripts, effect):
    councils = {"default": {"agents": ["a", "b"], "topology": "memory", "rounds": 1, "stop": [], "keep_first": False}}
    with serving(settings(tmp_path, agents=scripts, councils=councils)) as on, httpx.Client(base_url=on.url) as client:
        _, run = asked(client)
        assert client.post(f"/v1/runs/{run}/grade", json={"gold": " 7.0 "}).json()["effect"] == effect
        assert client.post(f"/v1/runs/{run}/grade", json={"gold": "blue"}).status_code == 400
        assert client.post("/v1/runs/run_none/grade", json={"gold": "7"}).status_code == 404


def test_the_page_comes_with_a_strict_policy_and_names_only_its_own_files(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    sources = [part.split('"')[0] for part in page.text.replace("href=", "src=").split('src="')[1:]]
    assert sources
    for source in sources:
        assert source.startswith("./")
        found = client.get(source[1:])
        assert found.status_code == 200
        if "assets" in source:
            assert "immutable" in found.headers["cache-control"]
    for path in ("/assets/none.js", "/assets/..%2findex.html", "/assets/../../page.py", "/licences.md"):
        assert client.get(path).status_code == 404


def test_the_page_needs_no_key_and_all_else_does(tmp_path):
    with serving(settings(tmp_path)) as on, httpx.Client(base_url=on.url) as client:
        made(on, "one")
        assert client.get("/").status_code == 200
        assert client.get("/icon.svg").status_code == 200
        assert client.get("/v1/conversations").status_code == 401
