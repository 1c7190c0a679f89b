"""The lines of a batch's file: what becomes a request, and what is a fault with its number."""

import json

import pytest
from jobs import PATH

from api.jobs.lines import LONGEST_LINE, numbered, read_line
from api.jobs.scan import scan
from api.store import Estimate, Fault, Item, open_store


async def chunked(content, size=7):
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def read(content, size=7):
    return [read_line(n, line, PATH, lambda _: "") async for n, line in numbered(chunked(content, size))]


def line(name="a", **more):
    return json.dumps({"custom_id": name, "method": "POST", "url": PATH, "body": {}} | more).encode()


@pytest.mark.parametrize("size", [1, 7, 1 << 18])
async def test_lines_are_numbered_however_they_are_cut(size):
    content = b"\xef\xbb\xbf" + line("a") + b"\n\n" + line("b") + b"\r\n  \n" + line("c")
    found = [item for item in await read(content, size) if item]
    assert [(item.line, item.custom_id) for item in found] == [(1, "a"), (3, "b"), (5, "c")]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (b"{", "invalid_json_line"),
        (b"\xff\xfe{}", "invalid_json_line"),
        (b"[" * 100_000, "invalid_json_line"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "invalid_json_line"),
        (b'{"custom_id": NaN}', "invalid_json_line"),
        (b'{"custom_id": ' + b"9" * 5000 + b"}", "invalid_json_line"),
        (b'{"custom_id": "a\0"}', "invalid_json_line"),
        (b"null", "invalid_request"),
        (line(""), "invalid_request"),
        (line("x" * 257), "invalid_request"),
        (line(7), "invalid_request"),
        (line(method="GET"), "invalid_request"),
        (line(url="/v1/other"), "mismatched_endpoint"),
        (line(body=[]), "invalid_request"),
        (line(body={"stream": True}), "invalid_request"),
        (line("a\0"), "invalid_text"),
        (line(body={"deep": [{"er": "a\ud800"}]}), "invalid_text"),
        (line(body={"a\udfff": 1}), "invalid_text"),
        (b" " * (LONGEST_LINE + 1), "line_too_long"),
        (line(body={"x": "y" * LONGEST_LINE}), "line_too_long"),
    ],
)
async def test_a_line_that_is_no_request_is_a_fault_with_its_number(wrong, code):
    found = await read(line("a") + b"\n" + wrong + b"\n" + line("b"), 1 << 16)
    fault = found[1]
    assert isinstance(fault, Fault)
    assert (fault.line, fault.code) == (2, code)
    assert fault.message.startswith("line 2: ")
    assert len(fault.message) < 400
    assert [item.custom_id for item in (found[0], found[2])] == ["a", "b"]


async def test_escapes_that_are_valid_text_are_let_through():
    (item,) = await read(line(body={"q": "\U0001f600 \\u0000 is written so"}))
    assert isinstance(item, Item)
    assert json.loads(item.request)["q"] == "\U0001f600 \\u0000 is written so"


async def test_a_line_without_end_takes_no_memory():
    async def endless():
        for _ in range(200):
            yield b"x" * (1 << 20)
        yield b"\n" + line("a")

    found = [(n, text is None) async for n, text in numbered(endless())]
    assert found == [(1, True), (2, False)]


async def scanned(content, tmp_path, check=lambda _: ""):
    store = open_store(None, tmp_path)
    price = lambda _: Estimate(calls_least=2, calls_most=3, usd_most=0.5)  # noqa: E731 - one expression
    try:
        return await scan(chunked(content, 65_536), PATH, check, price, into=store.items, batch="b")
    finally:
        await store.close()


async def test_a_scan_adds_up_what_it_may_cost(tmp_path):
    found = await scanned(b"\n".join(line(f"q{k}") for k in range(1000)), tmp_path)
    assert (found.items, found.faults) == (1000, [])
    assert found.estimate == Estimate(calls_least=2000, calls_most=3000, usd_most=500)


async def test_a_file_of_more_than_50_000_requests_is_refused(tmp_path):
    found = await scanned(b"\n".join(line(f"q{k}") for k in range(50_001)), tmp_path)
    assert [(fault.code, fault.line) for fault in found.faults] == [("too_many_requests", 50_001)]


async def test_a_hundred_faults_are_enough(tmp_path):
    found = await scanned(b"nonsense\n" * 5000, tmp_path)
    assert [fault.line for fault in found.faults] == list(range(1, 101))


async def test_what_a_request_lacks_is_told(tmp_path):
    found = await scanned(line("a"), tmp_path, check=lambda body: "messages: missing" if not body else "")
    assert [fault.message for fault in found.faults] == ["line 1: body: messages: missing"]
