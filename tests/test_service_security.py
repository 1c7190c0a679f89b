"""Nobody sees what is another's, no council asks itself, and no request makes the server fetch an address."""

import asyncio
import json
import socket
import threading

import httpx
import pytest
from addresses import addresses
from serving import serving, settings

# LiteLLM 1.105 has types, and reads fields, in ways that pydantic 2.11 and later warn of: theirs to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # its idle connections end with the process
]

CHAT = {"model": "eot/default", "messages": [{"role": "user", "content": "What is 3 + 4?"}]}
LINE = {"custom_id": "q1", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}


def client(served, key=None):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=served.url, headers=headers, timeout=30)


def new_key(served, *scopes):
    work = served.service.keyring.create("k", scopes)
    return asyncio.run_coroutine_threadsafe(work, served.loop).result(10)[1]


def upload(http, lines=(LINE,), name="in.jsonl"):
    body = "\n".join(map(json.dumps, lines))
    return http.post("/v1/files", files={"file": (name, body)}, data={"purpose": "batch"})


def test_what_one_key_made_is_not_there_for_another(tmp_path):
    with serving(settings(tmp_path)) as served:
        mine = client(served, new_key(served, "chat", "batch"))
        theirs = client(served, new_key(served, "admin"))
        run = mine.post("/v1/runs", json={"question": "What is 3 + 4?"}).json()["id"]
        response = mine.post("/v1/responses", json={"model": "eot/default", "input": "What is 3 + 4?"}).json()["id"]
        file = upload(mine).json()["id"]
        batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch_id = mine.post("/v1/batches", json=batch).json()["id"]
        things = [
            ("GET", f"/v1/runs/{run}"),
            ("GET", f"/v1/runs/{run}/events"),
            ("DELETE", f"/v1/runs/{run}?forget=true"),
            ("GET", f"/v1/responses/{response}"),
            ("DELETE", f"/v1/responses/{response}"),
            ("GET", f"/v1/files/{file}"),
            ("GET", f"/v1/files/{file}/content"),
            ("DELETE", f"/v1/files/{file}"),
            ("GET", f"/v1/batches/{batch_id}"),
            ("GET", f"/v1/batches/{batch_id}/events"),
            ("POST", f"/v1/batches/{batch_id}/cancel"),
        ]
        for method, path in things:
            assert theirs.request(method, path).status_code == 404, path
        assert theirs.post("/v1/batches", json=batch).status_code == 404
        again = {"model": "eot/default", "input": "And + 1?", "previous_response_id": response}
        assert theirs.post("/v1/responses", json=again).status_code == 404
        for path in ("/v1/runs", "/v1/runs?q=what", "/v1/files", "/v1/batches"):
            assert theirs.get(path).json()["data"] == []
            assert mine.get(path).json()["data"] != []
        assert mine.get(f"/v1/runs/{run}").status_code == 200
        assert mine.get(f"/v1/files/{file}/content").status_code == 200


@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm"])
def test_a_council_that_would_ask_itself_is_refused(tmp_path, prefix):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    itself = {"model": f"{prefix}/eot/default", "base_url": f"http://127.0.0.1:{port}/v1", "api_key": "none"}
    wanted = settings(tmp_path, agents={"a": itself, "b": itself}, serve={})
    wanted = wanted.model_copy(update={"serve": wanted.serve.model_copy(update={"port": port})})
    with serving(wanted) as served, client(served) as http:
        answer = http.post("/v1/chat/completions", json=CHAT)
        told = http.get("/metrics").text
    assert answer.status_code == 502
    assert "an ensemble cannot sit in an ensemble" in answer.json()["error"]["message"]
    assert "eot_runs_started_total{" in told
    [started] = [line for line in told.splitlines() if line.startswith("eot_runs_started_total{")]
    assert started.endswith(" 1.0")


class Trap:
    """Counts who connects to a port of this machine, on 127.0.0.1 and on ::1."""

    def __init__(self):
        self.caught = []
        self.sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self.sockets[0].getsockname()[1]
        if socket.has_ipv6:
            self.sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for listener in self.sockets:
            threading.Thread(target=self._wait, args=(listener,), daemon=True).start()

    def _wait(self, listener):
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            line.settimeout(0.2)
            try:
                self.caught.append(line.recv(200))
            except TimeoutError:
                self.caught.append(b"")
            line.close()

    def close(self):
        for listener in self.sockets:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def requests(url):
    """Every field of every request that takes text, with the address in it: method, path, what is sent."""
    said = {"role": "user", "content": f"What is 3 + 4? {url}"}
    schema = {"$schema": url, "$id": url, "$ref": url, "type": "object", "properties": {"a": {"$ref": url}}}
    dynamic = {"$dynamicRef": url, "type": "object", "properties": {"a": {"type": "integer"}}}
    aimed = dict.fromkeys(("api_base", "base_url", "api_key", "user", "service_tier", "custom_llm_provider"), url)
    aimed |= {
        "metadata": {"a": url},
        "extra_body": {"base_url": url},
        "organization": url,
        "web_search_options": {"u": url},
    }
    tools = [{"type": "mcp", "server_label": "a", "server_url": url}, {"type": "web_search"}]
    tools += [{"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}]
    parts = [{"type": "text", "text": url}, {"type": "image_url", "image_url": {"url": url}}]
    parts += [{"type": "file", "file": {"file_id": url}}, {"type": "input_audio", "input_audio": {"data": url}}]
    inputs = [{"type": "input_text", "text": url}, {"type": "input_image", "image_url": url}]
    inputs += [{"type": "input_file", "file_url": url}]
    post = "POST"
    chat, answers, runs = "/v1/chat/completions", "/v1/responses", "/v1/runs"
    yield (
        post,
        chat,
        {"json": {"model": "eot/default", "messages": [{"role": "system", "content": url}, said], **aimed}},
    )
    yield post, chat, {"json": {"model": url, "messages": [said]}}
    yield post, chat, {"json": CHAT | {"tools": tools, "tool_choice": "auto", "functions": tools, "stop": [url[:40]]}}
    yield post, chat, {"json": CHAT | {"messages": [{"role": "user", "content": parts, "name": url}]}}
    for shape in (schema, dynamic):
        form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": shape}}
        yield post, chat, {"json": CHAT | {"response_format": form}}
    yield post, answers, {"json": {"model": "eot/default", "input": url, "instructions": url, "tools": tools, **aimed}}
    yield (
        post,
        answers,
        {"json": {"model": "eot/default", "input": [{"role": "user", "content": inputs}], "stream": True}},
    )
    yield post, answers, {"json": {"model": url, "input": "a", "previous_response_id": url, "prompt": {"id": url}}}
    asked = {"text": url, "context": url, "choices": {"A": url, "B": "b"}}
    yield post, runs, {"json": {"question": asked}}
    yield post, runs, {"json": {"question": "a", "council": url}}
    yield post, runs, {"json": {"question": "a", "council": {"agents": [url]}}}
    yield post, runs, {"json": {"question": "a", "council": {"topology": url}}}
    yield post, runs, {"json": {"question": "a", "council": {"base_url": url}, "webhook": url, "callback_url": url}}
    yield post, runs, {"json": {"question": {"text": "a", "json_schema": schema}}}
    yield post, "/v1/votes", {"json": {"question": url, "answers": [{"text": url, "agent": url}, url]}}
    yield post, "/v1/embeddings", {"json": {"model": url, "input": [url]}}
    yield (
        post,
        "/v1/batches",
        {"json": {"input_file_id": url, "endpoint": url, "completion_window": "24h", "metadata": {"webhook": url}}},
    )
    line = json.dumps(LINE | {"body": CHAT | aimed | {"messages": [said]}, "url": url})
    yield post, "/v1/files", {"files": {"file": (url, line)}, "data": {"purpose": "batch", "url": url}}
    yield "GET", "/v1/runs", {"params": {"q": url, "after": url}}
    yield "GET", "/v1/models", {"headers": {"referer": "http://127.0.0.1/", "x-forwarded-host": "127.0.0.1"}}
    yield "GET", f"/v1/files/{httpx.QueryParams({'a': url})}", {}


def test_no_field_of_any_request_makes_the_server_fetch_an_address(tmp_path):
    trap = Trap()
    try:
        urls = addresses(trap.port)
        assert len(set(urls)) >= 100
        with pytest.raises(httpx.HTTPError):
            httpx.get(urls[0], timeout=2)
        assert trap.caught, "the trap catches"
        trap.caught.clear()
        with serving(settings(tmp_path)) as served, client(served) as http:
            statuses = {}
            for url in urls:
                for method, path, sent in requests(url):
                    status = http.request(method, path, **sent).status_code
                    statuses[status] = statuses.get(status, 0) + 1
    finally:
        trap.close()
    assert trap.caught == []
    assert {200, 404, 422} <= set(statuses)
    assert not [status for status in statuses if status >= 500 and status != 503], statuses


AS_JSON = {"content-type": "application/json"}
BODIES = {
    "/v1/chat/completions": '{"model": "eot/default", "messages": [{"role": "user", "content": "Hm?"}], "stop": [X]}',
    "/v1/responses": '{"model": "eot/default", "input": "Hm?", "metadata": {"a": [{"b": X}]}}',
    "/v1/votes": '{"candidates": ["7", {"agent": X, "text": "8"}]}',
    "/v1/runs": '{"question": "Hm?", "council": {"agents": [X]}}',
    "/v1/embeddings": '{"model": "m", "input": "Hm?", "whatever": {X: 1}}',
    "/v1/conversations": '{"title": X}',
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(settings(tmp_path_factory.mktemp("home"))) as served:
        yield served.url


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("lone", [b'"\\ud800"', b'"\\uDFFF x"', b'"\\\\\\udc00"', b'"\xed\xa0\x80"'])
def test_a_lone_surrogate_anywhere_in_a_body_is_the_callers_mistake(url, path, lone):
    content = BODIES[path].encode().replace(b"X", lone)
    answer = httpx.post(url + path, content=content, headers=AS_JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_unicode")


def test_a_content_type_is_known_whatever_its_case(url):
    content = BODIES["/v1/conversations"].replace("X", r'"\ud800"')
    answer = httpx.post(f"{url}/v1/conversations", content=content, headers={"content-type": "Application/JSON"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_unicode")


@pytest.mark.parametrize("said", [b'"\\ud83e\\udd5a"', b'"\\\\ud800"', "🥚".encode().join([b'"', b'"'])])
def test_what_only_looks_like_a_lone_surrogate_is_text(url, said):
    content = BODIES["/v1/chat/completions"].encode().replace(b"X", said)
    assert httpx.post(f"{url}/v1/chat/completions", content=content, headers=AS_JSON).status_code == 200


def nested(depth):
    schema = '{"type":"object"}'
    for _ in range(depth):
        schema = f'{{"allOf":[{schema},{schema}]}}'
    return schema


@pytest.mark.parametrize("parts", [nested(16), "[" + "{}," * 400_000 + "1]", "[" + '"",' * 200_000 + "1]"])
def test_a_body_of_too_many_parts_is_refused_before_it_is_read(url, parts):
    content = BODIES["/v1/responses"].replace("X", parts)
    answer = httpx.post(f"{url}/v1/responses", content=content, headers=AS_JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_parts")


def test_signs_in_a_text_are_no_parts(url):
    said = r"{[,\"]}" * 200_000
    content = BODIES["/v1/embeddings"].replace("{X: 1}", f'"{said}"')
    answer = httpx.post(f"{url}/v1/embeddings", content=content, headers=AS_JSON)
    assert answer.json()["error"]["code"] == "weights_missing"
