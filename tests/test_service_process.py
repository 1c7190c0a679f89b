"""The serving process: it starts, says where it listens, answers errors in one shape, and goes when told."""

import gzip
import os
import signal
import socket
import time
from threading import Thread

import httpx
import pytest
from chat_server import serving as upstream
from command import eot, scripted
from serving import process, serving, settings


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(settings(tmp_path_factory.mktemp("home"))) as served:
        yield served.url


def test_a_fresh_server_lives_and_is_ready(url):
    for path in ("/health/live", "/health/ready"):
        assert httpx.get(url + path).json() == {"status": "ok", "runs": 0}


def test_what_is_not_there_is_told_in_the_envelope(url):
    missing = httpx.get(f"{url}/v1/nothing")
    assert missing.status_code == 404
    assert missing.json()["error"] == {
        "message": "there is nothing at GET /v1/nothing; /openapi.json lists what there is",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }


def test_a_slash_too_many_is_told_and_leads_nowhere(url):
    """A redirect would name this host in plain HTTP, to which a client behind a proxy with TLS would send its key."""
    missing = httpx.post(f"{url}/v1/runs/", json={"question": "How many?"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_a_wrong_method_is_told_in_the_envelope(url):
    wrong = httpx.post(f"{url}/health/live")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"


BODY = b'{"question": "How many?"}'


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"content-type": ""}, "unsupported_media_type"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "unsupported_encoding"),
    ],
)
def test_a_body_in_another_form_is_told_what_is_taken(url, headers, code):
    body = gzip.compress(BODY) if "content-encoding" in headers else BODY
    refused = httpx.post(f"{url}/v1/runs", content=body, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, code)


def test_a_request_keeps_its_id(url):
    assert httpx.get(f"{url}/health/live", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b'])
def test_an_id_that_cannot_be_printed_is_replaced(url, given):
    assert httpx.get(f"{url}/nothing", headers={"x-request-id": given}).headers["x-request-id"].startswith("req_")


def test_a_draining_server_is_not_ready_but_lives(tmp_path):
    with serving(settings(tmp_path)) as served:
        served.service.drain()
        ready = httpx.get(f"{served.url}/health/ready")
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "5")
        assert ready.json()["error"]["code"] == "draining"
        assert httpx.get(f"{served.url}/health/live").status_code == 200


def test_sigterm_ends_the_process(tmp_path):
    scripted(tmp_path, a=["The answer is 7."])
    with process(tmp_path) as served:
        assert httpx.get(f"{served.url}/health/live").status_code == 200
        os.kill(served.pid, signal.SIGTERM)
        assert served.wait(10) in (0, -signal.SIGTERM)


def test_a_port_that_is_taken_is_said_in_a_line(tmp_path):
    scripted(tmp_path, a=["The answer is 7."])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = eot(tmp_path, "serve", "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 2
    assert "in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_agent_for_tasks_that_is_none_is_said_before_anything_is_served(tmp_path):
    scripted(tmp_path, a=["The answer is 7."])
    ended = eot(tmp_path, "serve", EOT_SERVE__TASK_AGENT="b")
    assert (ended.returncode, "There is no agent called 'b'" in ended.stderr) == (2, True)


def test_the_first_question_to_a_hosted_agent_holds_nobody_up(tmp_path):
    """LiteLLM's import and its first call's imports are behind the server when it begins to listen."""
    with upstream(lambda number, body: "The answer is 7.") as models:
        agent = f'[agents.one]\nmodel = "deepseek/m"\nbase_url = "{models.url}"\napi_key = "none"\nretries = 0\n'
        (tmp_path / "eot.toml").write_text(agent)
        with process(tmp_path) as served:
            slowest, told = 0.0, []
            asked = {"model": "agent/one", "messages": [{"role": "user", "content": "Hm?"}]}
            asking = Thread(
                target=lambda: told.append(httpx.post(f"{served.url}/v1/chat/completions", json=asked, timeout=60))
            )
            with httpx.Client(base_url=served.url) as prober:
                prober.get("/health/live")
                asking.start()
                while asking.is_alive():
                    begun = time.monotonic()
                    prober.get("/health/live")
                    slowest = max(slowest, time.monotonic() - begun)
    assert told[0].json()["choices"][0]["message"]["content"] == "The answer is 7."
    assert slowest < 0.2
