"""The serving process's log: one object a line, and neither a prompt nor a key in it."""

import io
import json
import logging

import pytest

from api.logs import JsonLines, PlainLines, configure, request_id, where

CANARY = "canary-7f3a91c0d2"


@pytest.fixture
def line():
    """Log one record with these arguments through a formatter; what it wrote."""
    out = io.StringIO()
    logger = logging.Logger("api.test")  # noqa: LOG001 - belongs to nobody else

    def write(formatter, *words, **more):
        handler = logging.StreamHandler(out)
        handler.setFormatter(formatter)
        logger.handlers = [handler]
        logger.warning(*words, **more)
        return out.getvalue()

    return write


def test_a_record_is_one_json_object(line):
    token = request_id.set("req_1")
    try:
        told = json.loads(line(JsonLines(), "half of %d\nis", 8, extra={"facts": {"seconds": 0.5, "who": "a"}}))
    finally:
        request_id.reset(token)
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "warning",
        "logger": "api.test",
        "message": "half of 8\nis",
        "request_id": "req_1",
        "seconds": 0.5,
        "who": "a",
    }


@pytest.mark.parametrize("formatter", [JsonLines, PlainLines])
def test_an_exception_tells_where_it_was_raised_and_never_its_words(line, formatter):
    def inner():
        raise ValueError(f"could not parse: {CANARY}")

    try:
        try:
            inner()
        except ValueError as fault:
            raise RuntimeError(CANARY) from fault
    except RuntimeError:
        written = line(formatter(), "it failed", exc_info=True)
    assert CANARY not in written
    assert all(word in written for word in ("RuntimeError", "caused by", "ValueError", "inner", "test_logs.py"))


def test_a_cause_that_was_hidden_stays_hidden():
    fault = KeyError("b")
    fault.__context__, fault.__suppress_context__ = ValueError("a"), True
    assert where(fault) == ["KeyError"]


@pytest.mark.parametrize("formatter", [JsonLines, PlainLines])
def test_a_secret_is_blotted_out_wherever_it_stands(line, formatter, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "environment-canary-1")
    written = line(
        formatter(secrets=[CANARY]),
        "sent %s and environment-canary-1",
        CANARY,
        extra={"facts": {"header": "Bearer abcdefgh", "key": f"sk-eot-{CANARY}"}},
    )
    for secret in (CANARY, "environment-canary-1", "abcdefgh"):
        assert secret not in written
    assert written.count("[key]") == 4


@pytest.mark.parametrize("formatter", [JsonLines, PlainLines])
def test_what_a_terminal_would_obey_is_taken_out(line, formatter):
    written = line(formatter(), "\x1b[2J\u202eevil", extra={"facts": {"a": "\x9b31m"}})
    assert not set("\x1b\u202e\x9b") & set(written)


def test_a_plain_record_is_one_line(line):
    assert line(PlainLines(), "one\ntwo").count("\n") == 1


def test_other_packages_may_only_warn(line):
    out = io.StringIO()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        configure("json", "info", stream=out)
        logging.getLogger("httpx").info("HTTP Request: POST http://user:word@host/")
        logging.getLogger("api.x").info("ours")
        logging.getLogger("api.x").debug("too much")
    finally:
        root.handlers[:], root.level = before
        for name in ("agents", "api", "eot", "evaluation", "local_models", "scoring", "topologies", "uvicorn"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert [json.loads(entry)["message"] for entry in out.getvalue().splitlines()] == ["ours"]
