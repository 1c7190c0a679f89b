"""Chat completions over a real socket: councils and agents, whole and streamed, told and cut off."""

import json
import socket
import threading
import time

import httpx
import pytest
from chat_server import serving as upstream
from serving import serving, settings

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")  # LiteLLM's own
QUESTION = {"role": "user", "content": "How many eggs are left?"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    agents = {
        "a": ["I count. The answer is 7."],
        "a2": ["I count. The answer is 7."],
        "b": ["The answer is 7."],
        "c": ["The answer is 8.", "I was wrong. The answer is 7."],
        "dead": ["!fail"],
        "slow": ["!hang"],
        "title": ['{"title": "Eggs"}'],
    }
    councils = {
        "default": {"agents": ["a", "b", "c"], "lazy": False},
        "split": {"agents": ["a", "c"], "rounds": 1, "stop": [], "topology": "memory"},
        "sentence": {"agents": ["a", "a2"], "topology": "memory"},
        "dead": {"agents": ["dead"], "topology": "memory"},
        "slow": {"agents": ["slow", "a"], "topology": "memory", "quorum": 1},
    }
    wanted = settings(
        tmp_path_factory.mktemp("home"),
        agents=agents,
        councils=councils,
        serve={"keep_alive_seconds": 0.2, "task_agent": "title"},
    )
    with serving(wanted) as served:
        yield served.url


def ask(url, model="eot/default", messages=(QUESTION,), **more):
    return httpx.post(
        f"{url}/v1/chat/completions", json={"model": model, "messages": list(messages)} | more, timeout=60
    )


def streamed(url, model="eot/default", messages=(QUESTION,), **more):
    """The stream's data, one object each, without the closing mark, which must be there."""
    body = {"model": model, "messages": list(messages), "stream": True} | more
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
        frames = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    return [json.loads(frame) for frame in frames[:-1]]


def text_of(chunks, key="content", index=0):
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ()) if choice["index"] == index]
    return "".join(choice["delta"].get(key, "") for choice in choices)


def test_councils_topologies_and_agents_are_models(url):
    names = [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]]
    assert names[:9] == [
        f"eot/{name}"
        for name in ("default", "split", "sentence", "dead", "slow", "memory", "report", "relay", "debate")
    ]
    assert "agent/title" in names
    assert httpx.get(f"{url}/v1/models/eot/debate").json()["owned_by"] == "council"
    missing = httpx.get(f"{url}/v1/models/eot/defautl")
    assert missing.status_code == 404
    assert "Did you mean 'eot/default'?" in missing.json()["error"]["message"]


def test_a_council_answers_with_its_verdict(url):
    answer = ask(url).json()
    assert answer["object"] == "chat.completion"
    [choice] = answer["choices"]
    assert choice["message"]["content"] in ("I count. The answer is 7.", "The answer is 7.")
    assert choice["finish_reason"] == "stop"
    told = answer["eot"]
    assert (told["answer"], told["how"], round(told["support"], 3)) == ("7", "majority 2 of 3", 0.667)
    assert told["dissent"] == [{"answer": "8", "agents": ["c"], "share": pytest.approx(1 / 3)}]
    assert told["shadow"]["answer"] == "7"
    assert told["changed"] is False
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert "c, round 0:\nThe answer is 8." in choice["message"]["reasoning_content"]


def test_a_stream_says_the_same_as_the_whole(url):
    whole, chunks = ask(url, "eot/split").json(), streamed(url, "eot/split")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    message = whole["choices"][0]["message"]
    assert text_of(chunks) == message["content"]
    assert sorted(text_of(chunks, "reasoning_content").split("\n\n")) == sorted(
        message["reasoning_content"].split("\n\n")
    )
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["eot"]["answer"] == whole["eot"]["answer"] == "7"
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_comes_last_when_it_is_asked_for(url):
    chunks = streamed(url, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == ask(url).json()["usage"]


def test_an_agent_alone_is_asked_what_was_typed_and_streams_as_it_writes(tmp_path):
    told = []

    def answer(number, body):
        told.append(body)
        return "Hello there."

    with upstream(answer) as server:
        agents = {"one": {"model": "openai/m", "base_url": server.url, "api_key": "none"}}
        with serving(settings(tmp_path, agents=agents)) as served:
            talk = [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": [{"type": "text", "text": "Who are"}, {"type": "text", "text": "you?"}]},
            ]
            sampling = {"temperature": 0.2, "max_tokens": 9, "top_p": 0.5, "stop": ["END"], "presence_penalty": 1}
            chunks = streamed(served.url, "agent/one", talk, **sampling)
    assert text_of(chunks) == "Hello there."
    assert text_of(chunks, "reasoning_content").strip("… ") == "", "no work of a council to tell"
    [body] = told
    assert [message["content"] for message in body["messages"]] == ["Be kind.", "Hi", "Yes?", "Who are\nyou?"]
    assert (body["temperature"], body["max_tokens"], body["top_p"], body["stop"]) == (0.2, 9, 0.5, ["END"])


def test_what_was_said_before_is_the_councils_background(tmp_path):
    with upstream(lambda number, body: "The answer is 7.") as server:
        agents = {name: {"model": "openai/m", "base_url": server.url, "api_key": "none"} for name in "ab"}
        with serving(settings(tmp_path, agents=agents)) as served:
            talk = [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": "I have 9 eggs."},
                {"role": "assistant", "content": "Good."},
                {"role": "user", "content": "I eat 2. How many are left?"},
            ]
            answer = ask(served.url, "eot/memory", talk)
            assert answer.status_code == 200, answer.text
        read = server.bodies[0]["messages"][1]["content"]
    assert "Instructions for this conversation:\n\nBe brief." in read
    assert "User: I have 9 eggs.\n\nAssistant: Good." in read
    assert read.index("Good.") < read.index("I eat 2.")


def test_n_choices_are_n_runs(url):
    answer = ask(url, "agent/a", n=3).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({told["run_id"] for told in answer["eot"]}) == 3
    chunks = streamed(url, "agent/a", n=2)
    assert text_of(chunks, index=0) == text_of(chunks, index=1) == "I count. The answer is 7."


@pytest.mark.parametrize("model", ["eot/sentence", "agent/a"])
def test_the_text_ends_before_a_stop_string(url, model):
    assert ask(url, model, stop=" The answer").json()["choices"][0]["message"]["content"] == "I count."
    assert text_of(streamed(url, model, stop=["nowhere", " The answer"])) == "I count."


def test_parameters_that_nobody_knows_are_let_pass(url):
    assert ask(url, user="me", frequency_penalty=0.1, logit_bias={}, tools=None, whatever={"a": [1]}).status_code == 200


CHAT = "\n### Chat History:\n<chat_history>\nUSER: How many eggs?\nASSISTANT: 7.\n</chat_history>"
TITLE = "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n### Guidelines:\n-"
BY_LIBRECHAT = (
    "Provide a concise, 5-word-or-less title for the conversation, using title case conventions. "
    "Only return the title itself.\n\nConversation:\nUser: How many eggs?\nAI: 7."
)
BACKGROUND = [
    TITLE + CHAT,
    "### Task:\nGenerate a concise title summarizing the chat history.\n### Guidelines:\n- Keep it short" + CHAT,
    "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history\n\n### Guidelines:\n-" + CHAT,
    "### Task:\nPredict 3-5 useful messages this user might naturally send next.\n### Guidelines:\n- Write" + CHAT,
    "### Task:\nSuggest 3-5 relevant follow-up questions or prompts\n### Guidelines:\n- Write" + CHAT,
    "### Task:\nAnalyze the chat history to determine the necessity of generating search queries" + CHAT + "\n",
    BY_LIBRECHAT,
    (
        "Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise title "
        "in the detected language (5 words or less, no punctuation or quotation)\n\nUser: How many eggs?\nAI: 7."
    ),
]


@pytest.mark.parametrize("prompt", BACKGROUND)
def test_background_prompts_of_chat_clients_go_to_one_agent(url, prompt):
    answer = ask(url, messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": prompt}]).json()
    assert answer["choices"][0]["message"]["content"] == '{"title": "Eggs"}'
    assert answer["eot"]["usage"]["calls"] == 1


@pytest.mark.parametrize(
    "talk",
    [
        [("user", "What title did Napoleon give his brother?")],
        [("user", "Write a concise title for the conversation between Romeo and Juliet in act two, and say why.")],
        [("user", "Give me a five-word-or-less title for my book. Nine eggs, two are eaten.")],
        [("user", f"What does this prompt do?\n\n{BACKGROUND[0]}")],
        [("user", f"{BACKGROUND[0]}\nWhy is there an emoji in it?")],
        [("user", f"{TITLE}\n### Output:\nJSON")],
        [("user", BY_LIBRECHAT), ("assistant", "Eggs"), ("user", "And how many are left?")],
        [("system", BY_LIBRECHAT), ("user", "How many eggs are left?")],
        # Open WebUI asks so when documents are attached: a question of its user's, in a template.
        [("user", "### Task:\nRespond to the user query using the provided context.\n\n### Guidelines:\n- x" + CHAT)],
    ],
)
def test_what_is_only_like_a_background_prompt_is_still_the_councils(url, talk):
    messages = [{"role": role, "content": said} for role, said in talk]
    assert ask(url, messages=messages).json()["eot"]["usage"]["calls"] >= 3


def test_silence_is_filled_with_pings_and_progress(url):
    body = {"model": "eot/slow", "messages": [QUESTION], "stream": True}
    pings, words, waits, last = 0, "", [], time.monotonic()
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            waits.append(time.monotonic() - last)
            last = time.monotonic()
            pings += line == ": ping"
            if line.startswith("data: "):
                words += json.loads(line[6:])["choices"][0]["delta"].get("reasoning_content", "")
            if pings == 3:
                break
    assert "a, round 0:" in words
    assert words.count("…") >= 2
    assert max(waits) < 2


DRIP = [step for piece in 40 * ["word "] for step in ({"content": piece}, 0.05)]


@pytest.mark.parametrize("shown", ["reasoning_content", "reasoning", "think", "off"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/runs"])
def test_no_stream_is_silent_while_members_write(tmp_path, path, shown):
    """What members write goes to nobody piece by piece, and must not be taken for something that was sent."""
    asked = {"messages": [QUESTION]} if "chat" in path else {"input": QUESTION["content"]}
    body = {"question": QUESTION["content"]} if path == "/v1/runs" else asked | {"model": "eot/default"}
    with upstream(lambda number, body: [*DRIP, {"content": "The answer is 7."}]) as server:
        agents = {name: {"model": "openai/m", "base_url": server.url, "api_key": "none"} for name in "ab"}
        wanted = settings(tmp_path, agents=agents, serve={"keep_alive_seconds": 0.3, "progress": shown})
        with serving(wanted) as served:
            waits, last = [], time.monotonic()
            with httpx.stream("POST", served.url + path, json=body | {"stream": True}, timeout=60) as answer:
                for _ in answer.iter_raw():
                    waits.append(time.monotonic() - last)
                    last = time.monotonic()
    assert sum(waits) > 1.5, "long enough to be silent in"
    assert max(waits[1:]) < 1


class Trap:
    """An upstream that takes a request, answers nothing, and notes when the other side hung up."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        self.asked, self.left = threading.Event(), threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        connection, _ = self.socket.accept()
        with connection:
            connection.recv(100_000)
            self.asked.set()
            while connection.recv(100_000):
                pass
            self.left.set()


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_client_goes_the_calls_upstream_are_cut_within_a_second(tmp_path, stream):
    trap = Trap()
    agents = {"one": {"model": "openai/m", "base_url": trap.url, "api_key": "none"}}
    with serving(settings(tmp_path, agents=agents)) as served:
        body = json.dumps({"model": "eot/default", "messages": [QUESTION], "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", served.server.port)) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            assert trap.asked.wait(30)
        assert trap.left.wait(1)
    trap.socket.close()


def test_an_error_in_mid_stream_is_in_the_envelope(url):
    chunks = streamed(url, "eot/dead")
    assert chunks[-1]["error"]["code"] == "no_quorum"
    assert "a scripted failure" in chunks[-1]["error"]["message"]


def test_a_council_that_failed_is_told_and_clients_must_not_repeat_it(url):
    answer = ask(url, "eot/dead")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
    assert answer.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "eot/none"}, 404, "model"),
        ({"model": "default"}, 404, "model"),
        ({"model": "eot/" + "x" * 200}, 422, "model"),
        ({"model": "agent/none"}, 404, "model"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 422, "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, None),
        ({"messages": [{"role": "user", "content": "   "}]}, 400, None),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, 400, None),
        ({"messages": [{"role": "user", "content": "x" * 200_001}]}, 400, None),
        ({"n": 9}, 422, "n"),
        ({"temperature": "hot"}, 422, "temperature"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(url, body, status, param):
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "eot/default", "messages": [QUESTION]} | body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


def test_more_runs_than_the_server_takes_are_told_when_to_come_back(tmp_path):
    agents = {"slow": ["!hang"]}
    with serving(settings(tmp_path, agents=agents, serve={"max_runs": 1})) as served:
        body = {"model": "agent/slow", "messages": [QUESTION], "stream": True}
        with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body) as first:
            lines = first.iter_lines()
            next(lines)
            refused = ask(served.url, "agent/slow")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json()["error"]["type"] == "rate_limit_error"


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": SCHEMA}}


@pytest.fixture(scope="module")
def json_url(tmp_path_factory):
    agents = {
        "x": ['I think. {"city": "Bern", "people": 1}'],
        "y": ['```json\n{"city": "Bern", "people": 2}\n```'],
        "z": ['{"city": "Basel", "people": 2}'],
        "bad": ["Bern has two."],
    }
    councils = {"default": {"agents": list(agents), "lazy": False, "rounds": 0}, "bad": {"agents": ["bad"]}}
    with serving(settings(tmp_path_factory.mktemp("home"), agents=agents, councils=councils)) as served:
        yield served.url


def test_a_schema_is_answered_field_by_field(json_url):
    answer = ask(json_url, response_format=FORM).json()
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"city": "Bern", "people": 2}
    assert answer["eot"]["abstained"] == ["bad"]
    assert answer["eot"]["usage"]["calls"] == 5, "whoever wrote no JSON is told so once"
    assert text_of(streamed(json_url, response_format=FORM)) == answer["choices"][0]["message"]["content"]


def test_an_agent_alone_keeps_to_the_schema_too(json_url):
    answer = ask(json_url, "agent/x", response_format=FORM).json()
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"city": "Bern", "people": 1}
    assert ask(json_url, "agent/x", response_format={"type": "text"}).status_code == 200


def test_members_are_told_the_schema_and_a_wrong_reply_is_mended(tmp_path):
    replies = ["It is big.", '{"city": "Bern", "people": 3}']
    with upstream(lambda number, body: replies[number]) as server:
        agents = {"one": {"model": "openai/m", "base_url": server.url, "api_key": "none"}}
        with serving(settings(tmp_path, agents=agents)) as served:
            answer = ask(served.url, "agent/one", response_format=FORM).json()
    assert json.loads(answer["choices"][0]["message"]["content"])["people"] == 3
    first, second = server.bodies
    assert json.dumps(SCHEMA) in first["messages"][-1]["content"]
    assert [message["role"] for message in second["messages"]][-2:] == ["assistant", "user"]
    assert "no JSON value could be read" in second["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}, 400),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "http://127.0.0.1:9/"}}}, 400),
        ({"type": "yaml"}, 422),
        ("json", 422),
    ],
)
def test_a_wrong_format_is_refused(json_url, form, status):
    assert ask(json_url, response_format=form).status_code == status


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 50_000, "\xff", "{", '{"seed": ' + "9" * 5000 + "}"])
def test_a_body_that_is_no_json_is_told_so(url, body):
    answer = httpx.post(f"{url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_crowd_is_turned_away_at_the_door(tmp_path):
    """Ten at once where two may be: two are let in, eight are told 429, and afterwards there is room again."""
    with serving(settings(tmp_path, agents={"slow": ["!hang"]}, serve={"max_runs": 2})) as served:
        body = json.dumps({"model": "agent/slow", "messages": [QUESTION], "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        crowd = [socket.create_connection(("127.0.0.1", served.server.port)) for _ in range(10)]
        for one in crowd:
            one.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        said = sorted(one.recv(12) for one in crowd)
        for one in crowd:
            one.close()
        assert said == [b"HTTP/1.1 200"] * 2 + [b"HTTP/1.1 429"] * 8
        for _ in range(100):
            if not served.service.in_flight:
                break
            time.sleep(0.02)
        assert served.service.in_flight == 0
