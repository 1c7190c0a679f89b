"""Canary keys on every path: none is found in answers, logs, traces, files or the database."""

import json
import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from command import eot
from serving import process

pytest.importorskip("opentelemetry.sdk", reason="traces need the extra eot[otel]")

SETTINGS, VARIABLE, HEADER, BODY = (f"canary{n}c0ffee{n}d00d" for n in range(4))
CANARIES = (SETTINGS, VARIABLE, HEADER, BODY)
QUESTION = "What is 3 + 4?"


class Echo(ThreadingHTTPServer):
    """An upstream that quotes the key it was sent: in an error of each status in turn, or where a page is expected."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Echoing)
        self.seen, self.lock = [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Echoing(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["authorization"].removeprefix("Bearer ")
        with self.server.lock:
            self.server.seen.append(key)
            status = (400, 401, 403, 404, 422, 429, 500, 503, 200)[len(self.server.seen) % 9]
        spaced = (
            f"Incorrect key provided: {key}. Header was Authorization: Bearer {key}; {key!r} {{'api_key': '{key}'}}"
        )
        body = json.dumps({"error": {"message": spaced, "type": key, "code": key, "param": key}}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if status != 200 else "text/html")
        self.send_header("x-echo", key)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Collector(ThreadingHTTPServer):
    """An OTLP collector: `bodies` are what it was sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Collecting)
        self.bodies = []


class _Collecting(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_settings(folder, url):
    agent = f'model = "openai/m"\nbase_url = "{url}"\nretries = 1\n'
    (folder / "eot.toml").write_text(
        f'[agents.a]\n{agent}api_key = "{SETTINGS}"\n'
        f'[agents.b]\n{agent}api_key_env = "SOME_VARIABLE"\n'
        '[agents.c]\nmodel = "scripted"\nscript = ["The answer is 7."]\n'
        '[councils.default]\nagents = ["a", "b", "c"]\nquorum = 1\nlazy = false\n'
        '[councils.broken]\nagents = ["a", "b"]\nlazy = false\n'
        '[serve]\nlog = "json"\nlog_level = "debug"\notel = true\n',
        encoding="utf-8",
    )


def ask_everything(url, key):
    """Use every surface, with secrets where clients put them; all that was answered."""
    told = []
    headers = {"authorization": f"Bearer {key}", "x-api-key": HEADER, "cookie": f"session={HEADER}"}
    headers |= {"openai-organization": HEADER, "idempotency-key": HEADER, "referer": f"http://x/?key={HEADER}"}
    secret = {"api_key": BODY, "extra_headers": {"authorization": BODY}, "metadata": {"api_key": BODY}}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:

        def ask(method, path, **sent):
            if "json" in sent:  # each request is its own
                sent["headers"] = {"idempotency-key": f"{HEADER}-{len(told)}"}
            answer = http.request(method, path, **sent)
            told.append(f"{answer.status_code} {answer.headers} {answer.text}")
            return answer

        for council in ("default", "broken"):
            for stream in (False, True):
                talk = {"messages": [{"role": "user", "content": QUESTION}], "stream": stream}
                ask("POST", "/v1/chat/completions", json={"model": f"eot/{council}", **talk, **secret})
                said = {"input": QUESTION, "stream": stream, **(secret | {"metadata": {}})}
                ask("POST", "/v1/responses", json={"model": f"eot/{council}", **said})
                ask("POST", "/v1/runs", json={"question": QUESTION, "council": council, "stream": stream})
            ask("POST", "/v1/chat/completions", json={"model": "agent/a", "messages": talk["messages"]})
        for row in ask("GET", "/v1/runs").json()["data"]:
            ask("GET", f"/v1/runs/{row['id']}?wait=20")
            ask("GET", f"/v1/runs/{row['id']}/events")
        body = {"model": "eot/broken", "messages": talk["messages"]}
        line = {"custom_id": "q", "method": "POST", "url": "/v1/chat/completions", "body": body}
        file = ask(
            "POST", "/v1/files", files={"file": ("in.jsonl", json.dumps(line))}, data={"purpose": "batch"}
        ).json()
        batch = {"input_file_id": file["id"], "endpoint": line["url"], "completion_window": "24h"}
        made = ask("POST", "/v1/batches", json=batch).json()
        for _ in range(100):
            now = ask("GET", f"/v1/batches/{made['id']}").json()
            if now["status"] == "completed":
                break
            threading.Event().wait(0.2)
        assert now["status"] == "completed", now
        ask("GET", f"/v1/files/{now['error_file_id']}/content")
        for path in (
            "/metrics",
            "/openapi.json",
            "/v1/models",
            "/v1/agents",
            "/v1/councils",
            f"/v1/x?api_key={HEADER}",
        ):
            ask("GET", path)
        ask("POST", "/v1/chat/completions", content=f'{{"api_key": "{BODY}", '.encode())
        ask("POST", "/v1/chat/completions", json={"model": BODY, "messages": BODY})
        refused = http.get("/v1/models", headers={"authorization": f"Bearer sk-eot-{HEADER}"})
        told.append(f"{refused.status_code} {refused.headers} {refused.text}")
    return told


def test_no_key_is_found_anywhere_but_where_it_was_put(tmp_path):
    with running(Echo()) as upstream, running(Collector()) as collector:
        write_settings(tmp_path, upstream.url)
        key = eot(tmp_path, "keys", "create", "k", "--scope", "admin").stdout.strip()
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
        otel["OTEL_EXPORTER_OTLP_COMPRESSION"] = "none"
        lines = []
        with process(tmp_path, SOME_VARIABLE=VARIABLE, **otel) as started:
            reading = threading.Thread(target=lambda: lines.extend(started.stderr), daemon=True)
            reading.start()
            told = ask_everything(started.url, key)
            started.send_signal(signal.SIGTERM)
            started.wait(40)
            reading.join(10)
    (tmp_path / "eot.toml").unlink()
    kept = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    places = {
        "answers": "\n".join(told).encode(),
        "logs": "".join(lines).encode(),
        "traces": b"".join(collector.bodies),
        **kept,
    }
    assert set(upstream.seen) == {SETTINGS, VARIABLE}
    assert any(name.startswith("eot.sqlite") for name in kept)
    assert b"invoke_workflow" in places["traces"]
    assert b'"logger": "api.http.access"' in places["logs"]
    assert [line for line in lines if not line.startswith("{")] == []
    assert b"[key]" in places["answers"]
    assert b"no_quorum" in places["answers"]
    found = [
        (place, canary) for place, text in places.items() for canary in (*CANARIES, key) if canary.encode() in text
    ]
    assert found == []
    assert QUESTION.encode() not in places["logs"] + places["traces"]


def test_a_setting_that_is_wrong_is_told_without_its_secret(tmp_path):
    (tmp_path / "eot.toml").write_text(f'[agents.a]\nmodel = 3\napi_key = ["{SETTINGS}"]\n', encoding="utf-8")
    told = eot(tmp_path, "serve", "--port", "0")
    assert (told.returncode, SETTINGS in told.stdout + told.stderr) == (2, False)


@pytest.mark.parametrize("store", [f"redis://:{SETTINGS}@127.0.0.1:1/0", f"http://u:{SETTINGS}@127.0.0.1/"])
def test_a_store_that_cannot_be_used_is_told_without_its_password(tmp_path, store):
    (tmp_path / "eot.toml").write_text(
        f'[agents.a]\nmodel = "scripted"\nscript = ["7"]\n[serve]\nstore = "{store}"\n', encoding="utf-8"
    )
    for words in (("keys", "create", "k"), ("serve", "--port", "0")):
        told = eot(tmp_path, *words, timeout=60)
        assert (told.returncode, "Traceback" in told.stderr) == (2, False)
        assert SETTINGS not in told.stdout + told.stderr
