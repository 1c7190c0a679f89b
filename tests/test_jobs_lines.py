"""Batch files of 5,000 lines that hypothesis makes up: each line is an item or a fault, and nothing escapes."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.jobs.lines import LONGEST_LINE, numbered, read_line
from api.store import Fault, Item
from eot.text import fault_in

URL = "/v1/chat/completions"
EXAMPLES, LINES = 500, 10
GOOD = {"custom_id": "q1", "method": "POST", "url": URL, "body": {"model": "eot/default", "messages": []}}

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
odd_values = json_values | st.sampled_from(["a\0b", "\ud800", "\U0001f600", "", "x" * 257, "POST", URL, "[" * 50])
odd_rows = st.builds(
    lambda changes, gone: {name: value for name, value in (GOOD | changes).items() if name not in gone},
    st.dictionaries(st.sampled_from([*GOOD, "more"]), odd_values, max_size=3),
    st.sets(st.sampled_from(list(GOOD)), max_size=2),
)
good_rows = st.builds(
    lambda name, body: GOOD | {"custom_id": name, "body": body},
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20),
    st.dictionaries(st.text("abc", max_size=3), st.text("xyz"), max_size=3),
)
PLAIN = json.dumps(GOOD).encode()
BOM = b"\xef\xbb\xbf"
NASTY = (b"", b"  ", BOM + PLAIN, BOM, b"\xff\xfe{", b"\0", b"{", b"[]", b"null", b'"a"', b"NaN", b'{"custom_id": NaN}')
NASTY += (b"1" * 5000, b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 50_000, PLAIN + b"\r", PLAIN * 2)
NASTY += (b'{"custom_id": "\\u0000"}', b'{"custom_id": "\\ud800", "body": {}}', b'{"custom_id":"a","custom_id":"b"}')
NASTY += (b"x" * LONGEST_LINE, json.dumps(GOOD | {"body": {"a": "x" * LONGEST_LINE}}).encode())
NASTY += (json.dumps(GOOD | {"custom_id": "\u2028\x85\x0c"}, ensure_ascii=False).encode(),)
lines = st.one_of(
    good_rows.map(lambda row: json.dumps(row).encode()),
    odd_rows.map(lambda row: json.dumps(row).encode()),
    odd_rows.map(lambda row: json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"")),
    st.sampled_from(NASTY),
)


def right(body):
    return "" if "model" in body or "a" in body else "no model"


async def in_pieces(raw, size):
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


async def read(raw, size):
    return [(number, read_line(number, line, URL, right)) async for number, line in numbered(in_pieces(raw, size))]


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(lines, min_size=LINES, max_size=LINES), st.sampled_from([7, 4096, 1 << 18]))
async def test_every_line_is_an_item_or_a_fault_with_its_number(given_lines, size):
    raw = b"\n".join(given_lines)
    if size == 7 and len(raw) > 20_000:
        size = 4096
    found = await read(raw, size)
    assert found == await read(raw, len(raw) + 1), "how it comes in pieces makes no difference"
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    assert len(found) in (LINES, LINES - 1), "an empty last line is no line"
    for (number, what), line in zip(found, given_lines, strict=False):
        if what is None:
            assert not line.removeprefix(BOM).strip()
            continue
        assert what.line == number
        if isinstance(what, Fault):
            assert what.message.startswith(f"line {number}: ")
            assert len(what.message) < 1_000
            assert not fault_in(what.message)
            continue
        assert isinstance(what, Item)
        row = json.loads(line.removeprefix(BOM))
        assert (what.custom_id, json.loads(what.request)) == (row["custom_id"], row["body"])
        assert not fault_in(what.custom_id + what.request)
        what.custom_id.encode()
        assert row.get("url", URL) == URL
        assert row.get("method", "POST") == "POST"
        assert len(line) <= LONGEST_LINE


def test_the_lines_that_are_made_up_are_of_both_kinds():
    """Else the property above could be kept by refusing everything."""
    good = read_line(1, json.dumps(GOOD).encode(), URL, right)
    assert isinstance(good, Item)
    kinds = {type(read_line(1, line, URL, right)) for line in NASTY if len(line) <= LONGEST_LINE}
    assert kinds == {Item, Fault, type(None)}
