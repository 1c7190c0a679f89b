"""The hosted agent against a real OpenAI-compatible server on the loopback that behaves well, badly, or not at all."""

import asyncio
import email.utils
import gc
import json
import logging
import subprocess
import sys
import time
import traceback
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from agents import CallStore, Checked, Deadline, HostedAgent, Memo, Prices, Retry
from agents.faults import retry_after, scrub
from eot.errors import (
    AuthError,
    CallError,
    ContextOverflowError,
    DeadlineError,
    EmptyReplyError,
    EotError,
    InputError,
    OversizedReplyError,
    RateLimitedError,
    TransientError,
)
from eot.types import Delta, Message, Prompt

# LiteLLM 1.105 reads pydantic's fields off instances, which pydantic 2.11 and later warn of: theirs to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
]

ROOT = Path(__file__).parents[1]
KEY = "sk-canary-7d1f0c9a"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
DONE = b"data: [DONE]\n\n"


def event(text=None, finish=None, usage=None, **delta):
    """One server-sent event of a chat completion."""
    choices = [] if usage else [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}]
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + json.dumps(chunk | ({"usage": usage} if usage else {})).encode() + b"\n\n"


class Server:
    """Answers each request with the next of its `acts`, the last one for ever; notes what it was sent."""

    def __init__(self, *acts):
        self.acts, self.bodies, self.heads = list(acts), [], []
        self.closed = asyncio.Event()

    async def handle(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
            self.heads.append(head)
            self.bodies.append(json.loads(await reader.readexactly(size)))
            act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
            await act(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed.set()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def head(status="200 OK", kind="text/event-stream", **headers):
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def says(*events):
    async def act(_, writer):
        writer.write(head() + b"".join(events))

    return act


def refuses(status, message, **headers):
    async def act(_, writer):
        body = json.dumps({"error": {"message": message, "type": "some_error", "code": None}}).encode()
        writer.write(head(status, "application/json", content_length=len(body), **headers) + body)

    return act


def answers(body, kind="application/json"):
    async def act(_, writer):
        writer.write(head("200 OK", kind, content_length=len(body)) + body)

    return act


async def cut(_, writer):
    piece = event("Half a ")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    await writer.drain()
    writer.transport.abort()


GOOD = says(event("Two and two "), event("make 4."), event(finish="stop"), event(usage=USAGE), DONE)


@asynccontextmanager
async def listening(*acts):
    server = Server(*acts)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()


def agent_of(server, **fields):
    given = {"name": "h", "model": "openai/some-model", "api_key": SecretStr(KEY), "base_url": server.url}
    return HostedAgent(**(given | fields))


def prompt(text="What is 2 + 2?", **fields):
    return Prompt(messages=(Message(role="system", content="Be brief."), Message(role="user", content=text)), **fields)


async def test_a_reply_is_streamed_with_its_usage_and_the_request_says_what_was_set():
    heard: list[Delta] = []
    async with listening(GOOD) as server:
        agent = agent_of(server, temperature=0.25, top_p=0.5, max_tokens=33, stop=("\n\n",))
        reply = await agent.ask(prompt(seed=9), heard.append)
    assert reply.text == "Two and two make 4."
    assert [delta.text for delta in heard] == ["Two and two ", "make 4."]
    assert (reply.usage.calls, reply.usage.input_tokens, reply.usage.output_tokens) == (1, 11, 7)
    assert (reply.finish, reply.usage.cost_usd, reply.seconds > 0) == ("stop", None, True)
    [body] = server.bodies
    asked = {"temperature": 0.25, "top_p": 0.5, "max_tokens": 33, "stop": ["\n\n"], "seed": 9, "model": "some-model"}
    assert asked.items() <= body.items()
    assert body["messages"] == [message.model_dump() for message in prompt().messages]
    assert f"authorization: bearer {KEY}" in server.heads[0]


@pytest.mark.parametrize("given", [{}, {"temperature": 0.0}, {"top_p": 0.9}, {"temperature": 0.2, "top_p": 0.9}])
async def test_only_the_sampling_that_was_given_is_sent(given):
    async with listening(GOOD) as server:
        await agent_of(server, **given).ask(prompt())
    [body] = server.bodies
    assert {name: body[name] for name in ("temperature", "top_p", "seed", "stop") if name in body} == given


@pytest.mark.parametrize(("seed", "sent"), [(0, 0), (2**31 - 1, 2**31 - 1), (2**31 + 4, 4), (-1, 2**31 - 1)])
async def test_a_seed_is_sent_in_the_range_that_providers_take(seed, sent):
    async with listening(GOOD) as server:
        await agent_of(server).ask(prompt(seed=seed))
    assert server.bodies[0]["seed"] == sent


async def test_prices_of_ones_own_win_over_everything():
    async with listening(GOOD) as server:
        own = Prices(input_usd_per_million=2, output_usd_per_million=10)
        reply = await agent_of(server, prices=own).ask(prompt())
    assert reply.usage.cost_usd == pytest.approx((11 * 2 + 7 * 10) / 1e6)


async def test_what_a_model_costs_is_known_unknown_or_ones_own_but_never_nought():
    known = HostedAgent(name="h", model="openai/gpt-4o")
    assert await known.is_priced()
    assert not await HostedAgent(name="h", model="openai/a-model-nobody-knows").is_priced()
    assert not await HostedAgent(name="h", model="openai/gpt-4o", base_url="http://127.0.0.1:1/v1").is_priced()
    assert not await HostedAgent(name="h", model="ollama/llama3").is_priced()  # LiteLLM says 0
    free = Prices(input_usd_per_million=0, output_usd_per_million=0)
    assert await HostedAgent(name="h", model="x/y", prices=free).is_priced()
    assert known._cost(1_000_000, 1_000_000) > 1


async def test_tokens_are_counted_when_the_provider_does_not_tell_them():
    async with listening(says(event("one two three"), event(finish="stop"), DONE)) as server:
        reply = await agent_of(server).ask(prompt())
    assert 8 <= reply.usage.input_tokens <= 40
    assert reply.usage.output_tokens in (3, 4)


async def test_hidden_reasoning_is_not_part_of_the_text_but_its_tokens_count():
    thinks = event(None, reasoning_content="let me see " * 50)
    async with listening(says(thinks, event("4"), event(finish="stop"), DONE)) as server:
        heard: list[Delta] = []
        reply = await agent_of(server).ask(prompt(), heard.append)
    assert reply.text == "4" == "".join(delta.text for delta in heard)
    assert reply.usage.output_tokens > 50


async def test_a_reply_that_its_token_limit_cut_off_says_so():
    async with listening(says(event("one two"), event(finish="length"), event(usage=USAGE), DONE)) as server:
        assert (await agent_of(server).ask(prompt())).finish == "length"


async def test_after_a_429_with_retry_after_the_call_is_asked_again_in_its_own_time():
    async with listening(refuses("429 Too Many", "slow down", retry_after="0.4"), GOOD) as server:
        started = time.perf_counter()
        reply = await Retry(agent_of(server), first_wait=0.01).ask(prompt())
        assert time.perf_counter() - started >= 0.4
    assert (reply.text, reply.usage.calls, len(server.bodies)) == ("Two and two make 4.", 2, 2)


async def test_litellm_itself_retries_nothing():
    for refusal in (refuses("429 Too Many", "slow down"), refuses("500 Oops", "boom"), refuses("408 Timeout", "late")):
        async with listening(refusal) as server:
            with pytest.raises(TransientError):
                await agent_of(server).ask(prompt())
            assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": email.utils.formatdate(time.time() + 3600, usegmt=True)}, 3600),
        ({}, None),
        ({"retry_after": "soon"}, None),
    ],
)
async def test_how_long_to_wait_is_read_from_the_headers(headers, seconds):
    async with listening(refuses("429 Too Many", "slow down", **headers)) as server:
        with pytest.raises(RateLimitedError, match=r"h \(openai/some-model\): asked too fast") as caught:
            await agent_of(server).ask(prompt())
    assert caught.value.retry_after == (None if seconds is None else pytest.approx(seconds, abs=290))


@pytest.mark.parametrize("said", ["-1", "nan", "inf", "", "Wed, 99 Foo"])
def test_a_senseless_retry_after_is_none(said):
    assert retry_after({"retry-after": said}) is None


def test_a_date_that_has_passed_asks_for_no_wait():
    assert retry_after({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0


@pytest.mark.parametrize(
    ("act", "error", "match"),
    [
        (refuses("401 Unauthorized", "Incorrect API key"), AuthError, "the key is missing or was refused; see MY_KEY"),
        (refuses("403 Forbidden", "not for you"), AuthError, "the key is missing or was refused; see MY_KEY"),
        (refuses("500 Oops", "boom"), TransientError, "boom"),
        (refuses("503 Busy", "overloaded"), TransientError, "overloaded"),
        (refuses("404 Not Found", "no such model"), CallError, "no such model"),
        (refuses("400 Bad Request", "bad parameter"), CallError, "bad parameter"),
        (cut, TransientError, "cut off"),
        (says(event("Half a ")), TransientError, "ended before it was finished"),
        (says(event("Half a "), b'data: {"id": nonsense\n\n'), TransientError, "cut off"),
        (says(event("Half"), b'data: {"error": {"message": "overloaded"}}\n\n'), TransientError, "overloaded"),
        (answers(b"this is not JSON"), TransientError, "ended before it was finished"),
        (answers(b"<html>hello</html>", "text/html"), TransientError, "ended before it was finished"),
    ],
)
async def test_each_failure_has_its_own_error(act, error, match):
    async with listening(act) as server:
        with pytest.raises(error, match=match) as caught:
            await agent_of(server, key_variable="MY_KEY").ask(prompt())
    assert type(caught.value) is error


async def test_a_prompt_too_long_is_refused_with_both_numbers():
    said = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
    async with listening(refuses("400 Bad Request", said)) as server:
        with pytest.raises(ContextOverflowError) as caught:
            await agent_of(server).ask(prompt())
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (5000, 4096)


async def test_an_empty_answer_is_an_empty_reply():
    async with listening(says(event(finish="stop"), event(usage=USAGE), DONE)) as server:
        assert (await agent_of(server).ask(prompt())).text == ""
        with pytest.raises(EmptyReplyError):
            await Checked(agent_of(server)).ask(prompt())


async def test_nobody_listening_is_a_passing_fault():
    async with listening(GOOD) as server:
        pass
    with pytest.raises(TransientError):
        await agent_of(server).ask(prompt())


@pytest.mark.parametrize("first", [b"", head(), head() + event("Half a ")])
async def test_a_call_that_hangs_is_closed_upstream_within_a_second(first):
    began = asyncio.Event()

    async def hangs(reader, writer):
        writer.write(first)
        await writer.drain()
        began.set()
        await reader.read()  # returns when the other side closes
        raise ConnectionResetError

    async with listening(hangs) as server:
        call = asyncio.create_task(agent_of(server).ask(prompt()))
        await began.wait()
        await asyncio.sleep(0.2)
        assert not server.closed.is_set()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.closed.wait(), 1)


async def test_a_slow_drip_runs_into_the_deadline():
    async def drips(_, writer):
        writer.write(head())
        while True:
            writer.write(event("drop "))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with listening(drips) as server:
        await HostedAgent.is_priced(agent_of(server))  # LiteLLM is loaded before the clock runs
        heard: list[Delta] = []
        with pytest.raises(DeadlineError):
            await Deadline(agent_of(server), 1).ask(prompt(), heard.append)
        await asyncio.wait_for(server.closed.wait(), 1)
    assert len(heard) > 5


@pytest.mark.parametrize("where", ["content", "reasoning_content"])
async def test_a_reply_of_ten_million_characters_is_cut_off_upstream(where):
    sent = 0

    async def floods(_, writer):
        nonlocal sent
        writer.write(head())
        while sent < 10_000_000:
            piece = event(**({"text": "word " * 400} if where == "content" else {where: "word " * 400}))
            writer.write(piece)
            sent += 2000
            await writer.drain()

    async with listening(floods) as server:
        with pytest.raises(OversizedReplyError, match="more than 400,000 characters"):
            await agent_of(server).ask(prompt())
        await asyncio.wait_for(server.closed.wait(), 2)
    assert sent < 9_000_000  # some megabytes lie in the sockets' buffers


async def test_what_a_listener_raises_ends_the_call_and_is_not_taken_for_the_providers():
    def hear(_):
        raise ZeroDivisionError

    async with listening(GOOD) as server:
        with pytest.raises(ZeroDivisionError):
            await agent_of(server).ask(prompt(), hear)


@pytest.mark.parametrize("model", ["nonsense", "nobody/knows-this", "openai/"])
async def test_an_unknown_model_string_says_what_would_be_right(model):
    with pytest.raises(InputError, match=r"agents\.h: LiteLLM knows no provider for the model .* write PROVIDER/MODEL"):
        await HostedAgent(name="h", model=model).ask(prompt())


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/gpt-4o", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.5-pro", "GOOGLE_API_KEY or GEMINI_API_KEY"),
    ],
)
async def test_a_missing_key_is_told_by_the_name_of_its_variable(model, variable, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(AuthError, match=rf"the key is missing or was refused; set {variable}\."):
        await HostedAgent(name="h", model=model).ask(prompt())
    with pytest.raises(AuthError, match=r"see TEAM_KEY\."):
        await HostedAgent(name="h", model=model, key_variable="TEAM_KEY").ask(prompt())


async def test_a_server_of_ones_own_is_never_sent_a_key_found_in_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with listening(GOOD) as server:
        await agent_of(server, api_key=None).ask(prompt())
    assert KEY not in server.heads[0]


def echoes_the_key(status):
    return refuses(status, f"Incorrect API key provided: {KEY}. Header was 'Bearer {KEY}'")


@pytest.mark.parametrize(
    "act",
    [
        *(
            echoes_the_key(status)
            for status in ("400 Bad", "401 No", "403 No", "404 No", "429 Slow", "500 Oops", "503 Busy")
        ),
        refuses("400 Bad Request", f"maximum context length is 10 tokens, key {KEY}"),
        says(event("Half"), b'data: {"error": {"message": "bad key ' + KEY.encode() + b'"}}\n\n'),
        says(event("Half"), b'data: {"broken ' + KEY.encode() + b"\n\n"),
        answers(KEY.encode()),
        cut,
    ],
)
@pytest.mark.parametrize("given", ["in the settings", "in the environment"])
async def test_the_key_appears_in_no_error_no_repr_no_log_and_no_file(act, given, caplog, tmp_path, monkeypatch, capfd):
    store = CallStore(tmp_path / "calls.sqlite")
    async with listening(act) as server:
        agent = agent_of(server)
        if given == "in the environment":
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            monkeypatch.setenv("OPENAI_API_BASE", server.url)
            agent = agent_of(server, api_key=None, base_url=None)
        with caplog.at_level(logging.DEBUG), pytest.raises(EotError) as caught:
            await Memo(agent, store).ask(prompt(run_id="r"))
    if given == "in the environment":
        assert f"bearer {KEY}" in server.heads[0]
    store.close()
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    fault = caught.value
    assert fault.__context__ is None
    assert KEY not in shown + repr(fault) + str(vars(fault)) + repr(agent) + caplog.text + "".join(capfd.readouterr())
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_what_looks_like_a_key_is_blotted_out_wherever_it_stands(monkeypatch):
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "plainwordsonly")
    said = "key sk-proj-abc123def456, plainwordsonly, Bearer abc.def and\nmy-own-secret; sk-ab***cdef gsk_0123456789"
    assert scrub(said, ["my-own-secret"]) == "key [key], [key], [key] and [key]; [key] [key]"
    assert scrub("the task-force asked a question about risk-free skiing") == (
        "the task-force asked a question about risk-free skiing"
    )


def test_what_a_provider_says_cannot_steer_a_terminal_or_turn_text_round():
    said = "no \x1b[31mred\x1b]0;title\x07 or \u202eback\u2066 or \x9b2J\u200b\ud800 here\x00\r\nnext"
    assert scrub(said) == "no [31mred]0;title or back or 2J here next"


async def test_the_error_of_a_provider_that_sends_escapes_is_plain_text():
    async with listening(refuses("400 Bad Request", "see \x1b[2J\u202ethis")) as server:
        with pytest.raises(CallError, match=r"see \[2Jthis"):
            await agent_of(server).ask(prompt())


def test_a_key_with_invisible_marks_inside_is_blotted_out_too():
    assert scrub("key sk-ab\u200bc123def456 and my-own\u2060-secret", ["my-own-secret"]) == "key [key] and [key]"


def test_importing_the_agents_loads_no_model_library():
    code = (
        "import sys, agents; heavy = {'litellm', 'torch', 'transformers', 'xllamacpp', 'openai', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_litellm_writes_no_prompt_into_the_log_even_when_told_to(caplog, monkeypatch):
    async with listening(GOOD) as server:
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "LiteLLM"):
            await agent_of(server).ask(prompt("a private question"))
    assert not [record for record in caplog.records if record.name.startswith("LiteLLM")]


async def test_many_calls_at_once_leave_nothing_open(recwarn):
    async with listening(GOOD) as server:
        replies = await asyncio.gather(*(agent_of(server).ask(prompt()) for _ in range(20)))
    gc.collect()
    assert {reply.text for reply in replies} == {"Two and two make 4."}
    assert [warning.message for warning in recwarn if issubclass(warning.category, ResourceWarning)] == []
