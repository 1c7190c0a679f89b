"""What the store promises, the same of SQLite and of Redis."""

import asyncio
import os
import stat
import time

import pytest
import redis.asyncio
from redis_server import RedisServer

from api.store import Answer, Batch, Counts, File, Item, Key, Outcome, Run, open_store
from eot.errors import InputError, SettingsError
from eot.types import Usage


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not RedisServer.is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["sqlite", "redis"])
async def store(request, tmp_path):
    url = None
    if request.param == "redis":
        url = request.getfixturevalue("server").url
        await _emptied(url)
    opened = open_store(url, tmp_path)
    yield opened
    await opened.close()


async def _emptied(url):
    client = redis.asyncio.from_url(url)
    await client.flushall()
    await client.aclose()


async def sent(*chunks):
    for chunk in chunks:
        yield chunk


async def read(store, id_):
    return b"".join([chunk async for chunk in store.files.read(id_)])


def items(first, last):
    return [Item(line=line, custom_id=f"q{line}", request=f'{{"n": {line}}}') for line in range(first, last + 1)]


def done(line, ok=True, body="{}"):
    return Outcome(line=line, ok=ok, body=body)


async def test_a_row_comes_back_as_it_was_saved(store):
    run = Run(
        id="r1", owner="k", title="你好 \U0001f600 \ud7ff", request={"a": [1, None]}, result={"b": 2.5}, events="{}\n"
    )
    await store.runs.save(run)
    assert await store.runs.load("r1") == run
    assert await store.runs.load("r2") is None
    assert await store.runs.delete("r1")
    assert not await store.runs.delete("r1")
    assert await store.runs.load("r1") is None
    assert await store.runs.page("k") == []


async def test_several_rows_come_at_one_go_and_those_that_are_not_there_are_left_out(store):
    rows = {f"r{at}": Run(id=f"r{at}", owner="k", title=str(at)) for at in range(250)}
    for row in rows.values():
        await store.runs.save(row)
    assert await store.runs.several([*rows, "nowhere"]) == rows
    assert await store.runs.several([]) == {}


async def test_rows_are_listed_newest_first_by_owner_and_by_page(store):
    for k in range(7):
        await store.runs.save(Run(id=f"r{k}", owner="ab"[k % 2], created=100.0 + k, title=f"Question {k}"))
    assert [run.id for run in await store.runs.page("a")] == ["r6", "r4", "r2", "r0"]
    assert [run.id for run in await store.runs.page("b")] == ["r5", "r3", "r1"]
    assert [run.id for run in await store.runs.page(None, 3)] == ["r6", "r5", "r4"]
    assert [run.id for run in await store.runs.page(None, 3, "r4")] == ["r3", "r2", "r1"]
    assert [run.id for run in await store.runs.page("a", 2, "r4")] == ["r2", "r0"]
    assert [run.id for run in await store.runs.search("a", "QUESTION 4")] == ["r4"]
    assert await store.runs.page("c") == []


async def test_rows_of_one_instant_are_paged_without_loss(store):
    for k in range(10):
        await store.keys.save(Key(id=f"k{k}", name="n", hash="h", created=5.0))
    seen, after = [], None
    while page := await store.keys.page("", 3, after):
        seen += [key.id for key in page]
        after = seen[-1]
    assert sorted(seen) == [f"k{k}" for k in range(10)]


async def test_many_changes_at_once_are_all_made(store):
    await store.keys.save(Key(id="k", name="n", hash="h", requests_per_minute=0))

    def more(key):
        return key.model_copy(update={"requests_per_minute": key.requests_per_minute + 1})

    await asyncio.gather(*(store.keys.change("k", more) for _ in range(20)))
    assert (await store.keys.load("k")).requests_per_minute == 20
    assert await store.keys.change("k", lambda _: None) is None
    assert await store.keys.change("nobody", more) is None


async def test_of_many_who_save_a_new_row_one_wins_and_the_others_read_it(store):
    rows = [Answer(id="once", body_hash=str(k)) for k in range(10)]
    found = await asyncio.gather(*(store.answers.save_new(row, time.time() + 60) for row in rows))
    assert found.count(None) == 1
    winner = rows[found.index(None)]
    assert {row.body_hash for row in found if row} == {winner.body_hash}


async def test_a_row_past_its_time_is_gone(store):
    await store.answers.save_new(Answer(id="old", body_hash="1"), time.time() + 0.15)
    assert (await store.answers.load("old")).body_hash == "1"
    await asyncio.sleep(0.3)
    assert await store.answers.load("old") is None
    assert await store.answers.page("") == []
    assert await store.answers.save_new(Answer(id="old", body_hash="2"), time.time() + 60) is None


async def test_a_file_is_written_and_read_as_a_stream(store):
    chunks = [os.urandom(300_000) for _ in range(5)]
    file = await store.files.write(File(id="f1", filename="a.jsonl", purpose="batch"), sent(*chunks, b""))
    assert file.size == 1_500_000
    assert await store.files.load("f1") == file
    assert await read(store, "f1") == b"".join(chunks)
    await store.files.write(file, sent(b"other"))
    assert await read(store, "f1") == b"other"
    assert await store.files.delete("f1")
    assert await read(store, "f1") == b""


async def test_a_file_whose_sender_fails_is_not_there(store):
    async def broken():
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.files.write(File(id="f1", filename="a", purpose="batch"), broken())
    assert await store.files.load("f1") is None
    assert await read(store, "f1") == b""


async def test_an_item_ends_once(store):
    await store.items.add("b", items(1, 3))
    assert (await store.items.load("b", 2)).request == '{"n": 2}'
    first = await store.items.finish("b", done(2, body="first"))
    second = await store.items.finish("b", done(2, ok=False, body="second"))
    assert (first.won, first.left) == (True, 2)
    assert (second.won, second.left) == (False, 2)
    assert await store.items.counts("b") == Counts(total=3, completed=1, failed=0)
    assert await store.items.load("b", 2) is None
    assert await store.items.outcomes("b", 0, 10) == [(done(2, body="first"), "q2")]


async def test_of_many_who_end_one_item_at_once_one_wins(store):
    await store.items.add("b", items(1, 1))
    ends = await asyncio.gather(*(store.items.finish("b", done(1, body=str(k))) for k in range(20)))
    assert [end.won for end in ends].count(True) == 1
    ((outcome, _),) = await store.items.outcomes("b", 0, 10)
    assert ends[int(outcome.body)].won


async def test_items_added_twice_are_there_once_and_a_name_used_twice_is_told(store):
    assert await store.items.add("b", items(1, 3)) == []
    assert await store.items.add("b", items(2, 4)) == []
    assert await store.items.add("b", [Item(line=9, custom_id="q1", request="{}"), *items(5, 5)]) == [9]
    assert await store.items.add("c", items(1, 1)) == []
    assert (await store.items.counts("b")).total == 5
    assert await store.items.window("b", 10) == [1, 2, 3, 4, 5]


async def test_each_end_brings_the_next_item_into_the_window(store):
    await store.items.add("b", items(1, 6))
    assert await store.items.window("b", 3) == [1, 2, 3]
    ends = await asyncio.gather(*(store.items.finish("b", done(line), 3) for line in (1, 2, 3)))
    assert sorted(end.next_line for end in ends) == [4, 5, 6]
    assert (await store.items.finish("b", done(5), 3)).next_line is None
    assert await store.items.window("b", 3) == [4, 6]


async def test_what_has_no_outcome_can_be_ended_at_one_go(store):
    await store.items.add("b", items(1, 5))
    await store.items.finish("b", done(3, body="mine"))
    assert await store.items.finish_rest("b", False, "late", 3) == 3
    assert await store.items.finish_rest("b", False, "late", 3) == 1
    assert await store.items.finish_rest("b", False, "late", 3) == 0
    assert await store.items.counts("b") == Counts(total=5, completed=1, failed=4)
    bodies = {outcome.line: outcome.body for outcome, _ in await store.items.outcomes("b", 0, 10)}
    assert bodies == {1: "late", 2: "late", 3: "mine", 4: "late", 5: "late"}


async def test_outcomes_come_by_line_and_by_page(store):
    await store.items.add("b", items(1, 30))
    for line in (30, 7, 12, 9, 25):
        await store.items.finish("b", done(line))
    pages = [await store.items.outcomes("b", after, 2) for after in (0, 9, 25)]
    assert [[outcome.line for outcome, _ in page] for page in pages] == [[7, 9], [12, 25], [30]]


async def test_after_a_drop_nothing_is_there_and_a_late_end_is_refused(store):
    await store.items.add("b", items(1, 3))
    await store.items.drop("b")
    assert not (await store.items.finish("b", done(1))).won
    assert await store.items.outcomes("b", 0, 10) == []
    assert await store.items.counts("b") == Counts()
    assert await store.items.window("b", 10) == []


async def test_what_items_spent_is_added_up_once(store):
    await store.items.add("b", items(1, 3))
    paid = Usage(calls=3, input_tokens=10, output_tokens=4, cost_usd=0.125)
    for _ in range(2):
        await store.items.finish("b", done(1).model_copy(update={"usage": paid}))
        await store.items.finish("b", done(2).model_copy(update={"usage": Usage(calls=2, cost_usd=None)}))
    counts = await store.items.counts("b")
    assert counts == Counts(total=3, completed=2, calls=5, input_tokens=10, output_tokens=4, usd=0.125, unpriced=1)


async def test_batches_that_were_not_retired_are_listed_oldest_first(store):
    rows = [Batch(id=f"b{k}", endpoint="/v1/runs", input_file_id="f", created=10.0 + k) for k in range(4)]
    for row in rows:
        assert await store.batches.save_new(row) is None
    await store.batches.change("b3", lambda row: row.entered("completed"))
    await store.batches.retire("b1")
    assert [row.id for row in await store.batches.active()] == ["b0", "b2", "b3"]
    assert [row.id for row in await store.batches.active()] == ["b0", "b2", "b3"]
    assert len(await store.batches.page("")) == 4


async def test_a_bucket_gives_what_it_holds_and_says_how_long_to_wait(store):
    for left in (2, 1, 0):
        level = await store.counters.take("k", 1, 3)
        assert level.taken
        assert level.remaining == pytest.approx(left, abs=0.05)
    refused = await store.counters.take("k", 1, 3)
    assert not refused.taken
    assert refused.wait == pytest.approx(20, abs=1)
    assert (await store.counters.take("other", 1, 3)).taken


async def test_a_bucket_refills_at_its_rate(store):
    await store.counters.take("k", 600, 600)
    assert not (await store.counters.take("k", 5, 600)).taken
    await asyncio.sleep(0.6)
    assert (await store.counters.take("k", 5, 600)).taken


async def test_who_must_take_is_told_to_sleep_longer_and_longer(store):
    waits = [(await store.counters.take("k", 1, 60, force=True)).wait for _ in range(62)]
    assert waits[:60] == [0] * 60
    assert waits[60:] == pytest.approx([1, 2], abs=0.5)
    back = await store.counters.take("k", -30, 60, force=True)
    assert back.remaining == pytest.approx(28, abs=0.5)


async def test_a_total_adds_up(store):
    totals = await asyncio.gather(*(store.counters.add("spent", 0.25) for _ in range(8)))
    assert sorted(totals) == pytest.approx([0.25 * k for k in range(1, 9)])
    assert await store.counters.add("spent", 0) == pytest.approx(2)
    assert await store.counters.total("spent") == pytest.approx(2)
    assert await store.counters.total("nothing") == 0


async def test_bookings_and_what_was_spent_never_pass_the_cap(store):
    await store.items.add("b", items(1, 8))
    booked = await asyncio.gather(*(store.items.book("b", line, 3, 10) for line in range(1, 7)))
    assert booked.count(True) == 3
    line = 1 + booked.index(True)
    assert await store.items.book("b", line, 3, 10)  # it has its booking already
    await store.items.finish("b", done(line).model_copy(update={"usage": Usage(calls=1)}))
    assert not await store.items.book("b", line, 1, 10)  # it has ended
    assert not await store.items.book("b", 8, 4, 10)
    assert await store.items.book("b", 8, 3, 10)
    await store.items.drop("b")
    assert not await store.items.book("b", 8, 3, 10)


async def test_what_was_kept_is_there_after_the_store_is_opened_again(store, tmp_path, request):
    await store.items.add("b", items(1, 2))
    await store.items.finish("b", done(1))
    await store.counters.add("spent", 1.5)
    url = request.getfixturevalue("server").url if "redis" in request.node.name else None
    again = open_store(url, tmp_path)
    assert await again.items.window("b", 10) == [2]
    assert await again.counters.add("spent", 0) == 1.5
    await again.ping()
    await again.close()


async def test_a_folder_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "eot.sqlite").write_text("this is no database, but it is long enough to be taken for one" * 50)
    with pytest.raises(InputError, match=r"cannot be kept in .*eot\.sqlite"):
        open_store(None, tmp_path)


@pytest.mark.parametrize("url", ["", "postgres://db/1", "redis", "http://redis:6379"])
async def test_an_address_that_is_no_store_is_refused(tmp_path, url):
    with pytest.raises(SettingsError, match="redis://HOST"):
        open_store(url, tmp_path)


async def test_the_files_are_their_owners_alone(tmp_path):
    store = open_store(None, tmp_path)
    await store.files.write(File(id="f1", filename="a", purpose="batch"), sent(b"secret"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    await store.close()
    assert modes == {0o600}


async def test_a_step_that_fails_spoils_none_that_shares_its_commit(tmp_path):
    store = open_store(None, tmp_path)
    database = store.items._database

    def fail(on):
        on.execute("insert into sums values ('x', '', 1)")
        raise ValueError("no")

    ends = await asyncio.gather(
        store.counters.add("a", 1), database.write(fail), store.counters.add("a", 1), return_exceptions=True
    )
    assert isinstance(ends[1], ValueError)
    assert sorted([ends[0], ends[2]]) == [1, 2]
    assert await store.counters.add("x", 0) == 0
    await store.close()
