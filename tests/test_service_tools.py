"""Tools of the asker's: who is told of them, what calls look like in either protocol, and where their output goes."""

import json

import httpx
import openai
import pytest
from chat_server import serving as upstream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import CompactedResponse, Response, ResponseStreamEvent
from pydantic import TypeAdapter
from serving import serving, settings

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")  # LiteLLM's own
EVENT = TypeAdapter(ResponseStreamEvent)
SCHEMA = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
FLAT = {"type": "function", "name": "get_weather", "description": "The weather there", "parameters": SCHEMA}
TOOL = {"type": "function", "function": {name: FLAT[name] for name in ("name", "description", "parameters")}}
ASKED = "What's the weather like in San Francisco?"
ARGUMENTS = '{"location": "San Francisco, CA"}'


def piece(index, **more):
    return {"tool_calls": [{"index": index, **more}]}


CALL = [
    {"role": "assistant", "content": None},
    piece(0, id="call_1", type="function", function={"name": "get_weather", "arguments": ""}),
    piece(0, function={"arguments": ARGUMENTS[:9]}),
    piece(0, function={"arguments": ARGUMENTS[9:]}),
]
TWO = [
    {"content": "I look it up."},
    *CALL[1:],
    piece(1, id="call_2", type="function", function={"name": "get_weather", "arguments": "{}"}),
]


def weather(number, body):
    """A model that calls the tool when it has one, and answers when it has its output."""
    outputs = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    if outputs or "tools" not in body:
        return f"It is {outputs[-1] if outputs else 'unknown'}. The answer is 7."
    return TWO if "both" in body["messages"][-1]["content"] else CALL


@pytest.fixture
def models():
    with upstream(weather) as server:
        yield server


@pytest.fixture
def url(tmp_path, models):
    hosted = {"model": "openai/m", "base_url": models.url, "api_key": "none"}
    agents = {
        "script": ["The answer is 7."],
        "light": hosted,
        "heavy": hosted | {"weight": 2.0, "model": "openai/strong", "max_tokens": 300},
    }
    councils = {
        "default": {"agents": list(agents), "lazy": False},
        "local": {"agents": ["script"], "topology": "memory"},
        "plain": {"agents": ["light", "heavy"], "topology": "memory", "rounds": 0, "lazy": False},
    }
    with serving(settings(tmp_path, agents=agents, councils=councils)) as served:
        yield served.url


def post(url, path, **body):
    return httpx.post(f"{url}/v1/{path}", json={"model": "eot/default"} | body, timeout=60)


def chat(url, *messages, **more):
    said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return post(url, "chat/completions", messages=said, **more)


def events(url, path, **body):
    with httpx.stream(
        "POST", f"{url}/v1/{path}", json={"model": "eot/default", "stream": True} | body, timeout=60
    ) as answer:
        assert answer.status_code == 200, answer.read()
        found = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert found.pop() == "[DONE]"
    return [json.loads(data) for data in found]


def test_a_council_with_tools_is_its_strongest_agent_that_can_be_told_of_them(url, models):
    answer = chat(url, "Be quick.", ASKED, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    [choice] = ChatCompletion.model_validate(answer.json()).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "get_weather", ARGUMENTS)
    [asked] = models.bodies
    assert (asked["model"], asked["tools"], asked["tool_choice"]) == ("strong", [TOOL], "required")
    assert asked["parallel_tool_calls"] is False
    assert asked["messages"][-1] == {"role": "user", "content": ASKED}
    assert answer.json()["eot"]["usage"]["calls"] == 1


def test_what_a_tool_gave_goes_back_to_who_called_it(url, models):
    message = chat(url, ASKED, tools=[TOOL]).json()["choices"][0]["message"]
    output = {"role": "tool", "tool_call_id": "call_1", "content": "17 degrees"}
    second = chat(url, ASKED, message, output, tools=[TOOL]).json()
    assert second["choices"][0]["message"]["content"] == "It is 17 degrees. The answer is 7."
    assert second["choices"][0]["finish_reason"] == "stop"
    assert [body["model"] for body in models.bodies] == ["strong", "strong"], "no council in between"
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
    assert models.bodies[1]["messages"][1:] == [{"role": "assistant", "content": None, "tool_calls": [call]}, output]


def test_calls_are_streamed(url):
    chunks = events(url, "chat/completions", messages=[{"role": "user", "content": "Tell me both."}], tools=[TOOL])
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == "I look it up."
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [(call["index"], call["id"], call["function"]["arguments"]) for call in calls] == [
        (0, "call_1", ARGUMENTS),
        (1, "call_2", "{}"),
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_openai_sdk_reads_them(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        said = [{"role": "user", "content": ASKED}]
        with client.chat.completions.stream(model="agent/light", messages=said, tools=[TOOL]) as stream:
            [call] = stream.get_final_completion().choices[0].message.tool_calls
        assert call.function.arguments == ARGUMENTS
        made = client.responses.create(model="eot/default", input=ASKED, tools=[FLAT])
        assert made.output[-1].type == "function_call"
        again = client.responses.create(
            model="eot/default",
            previous_response_id=made.id,
            tools=[FLAT],
            input=[{"type": "function_call_output", "call_id": made.output[-1].call_id, "output": "17 degrees"}],
        )
        assert again.output_text == "It is 17 degrees. The answer is 7."


def test_open_responses_tool_calling(url, models):
    body = post(url, "responses", input=[{"type": "message", "role": "user", "content": ASKED}], tools=[FLAT]).json()
    response = Response.model_validate(body)
    [call] = [item for item in response.output if item.type == "function_call"]
    assert (call.name, call.arguments, call.call_id, call.status) == (
        "get_weather",
        ARGUMENTS,
        "call_1",
        "completed",
    )
    assert response.status == "completed"
    assert [item.type for item in response.output] == ["function_call"], "it said nothing besides"
    assert models.bodies[0]["tools"] == [TOOL]


def test_open_responses_streams_tool_calls(url):
    found = events(url, "responses", input="Tell me both.", tools=[FLAT])
    for event in found:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    kinds = [event["type"] for event in found]
    assert kinds.count("response.function_call_arguments.done") == 2
    for kind in ("added", "done"):
        items = [event["item"] for event in found if event["type"] == f"response.output_item.{kind}"]
        assert [item["type"] for item in items] == ["message", "function_call", "function_call"]
    deltas = [event["delta"] for event in found if event["type"] == "response.function_call_arguments.delta"]
    assert deltas == [ARGUMENTS, "{}"]
    message, *calls = Response.model_validate(found[-1]["response"]).output
    assert (message.content[0].text, message.phase) == ("I look it up.", "commentary")
    assert [call.arguments for call in calls] == [ARGUMENTS, "{}"]


def test_a_conversation_with_calls_goes_on_from_a_stored_response(url, models):
    first = post(url, "responses", input="Tell me both.", tools=[FLAT]).json()
    outputs = [{"type": "function_call_output", "call_id": f"call_{n}", "output": f"{n} degrees"} for n in (1, 2)]
    second = post(url, "responses", input=outputs, previous_response_id=first["id"], tools=[FLAT]).json()
    assert second["output"][0]["content"][0]["text"] == "It is 2 degrees. The answer is 7."
    _, called, *given = models.bodies[1]["messages"]
    assert [call["id"] for call in called["tool_calls"]] == ["call_1", "call_2"]
    assert [(each["role"], each["tool_call_id"], each["content"]) for each in given] == [
        ("tool", "call_1", "1 degrees"),
        ("tool", "call_2", "2 degrees"),
    ]


def test_calls_that_are_sent_back_item_by_item_are_one_message(url, models):
    calls = [{"type": "function_call", "call_id": f"c{n}", "name": "get_weather", "arguments": "{}"} for n in (1, 2)]
    outputs = [{"type": "function_call_output", "call_id": f"c{n}", "output": "warm"} for n in (1, 2)]
    talk = [{"type": "message", "role": "user", "content": ASKED}, *calls, *outputs]
    assert post(url, "responses", input=talk, tools=[FLAT]).status_code == 200
    roles = [message["role"] for message in models.bodies[0]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]


def test_without_tools_a_council_reads_of_earlier_calls_in_words(url, models):
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]}
    output = {"role": "tool", "tool_call_id": "c", "content": "17 degrees"}
    for none in ({}, {"tools": [TOOL], "tool_choice": "none"}, {"tools": []}):
        del models.bodies[:]
        answer = chat(url, ASKED, called, output, "So?", **none).json()
        assert answer["eot"]["usage"]["calls"] >= 3
        read = models.bodies[0]["messages"][-1]["content"]
        assert "[called the tool f()]" in read
        assert "Output of a tool:\n17 degrees" in read


@pytest.mark.parametrize("model", ["eot/local", "agent/script"])
def test_agents_that_cannot_be_told_of_tools_answer_without_or_say_so(url, model):
    assert chat(url, ASKED, tools=[TOOL], model=model).json()["choices"][0]["message"]["content"] == "The answer is 7."
    named = {"type": "function", "function": {"name": "get_weather"}}
    for forced in ("required", named):
        answer = chat(url, ASKED, tools=[TOOL], tool_choice=forced, model=model)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "tools_unsupported")
        assert answer.json()["error"]["param"] == "tool_choice"


def test_an_operator_may_have_tools_ignored(tmp_path, models):
    hosted = {"model": "openai/m", "base_url": models.url, "api_key": "none"}
    with serving(settings(tmp_path, agents={"a": hosted, "b": hosted}, serve={"tools": "ignore"})) as served:
        assert chat(served.url, ASKED, tools=[TOOL]).json()["eot"]["usage"]["calls"] >= 2
        assert all("tools" not in body for body in models.bodies)
        forced = chat(served.url, ASKED, tools=[TOOL], tool_choice="required").json()
        assert forced["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("path", "tools", "choice"),
    [
        ("chat/completions", [{"type": "web_search"}], "auto"),
        ("chat/completions", [{"type": "function", "function": {"name": "a b"}}], "auto"),
        ("chat/completions", [TOOL], "perhaps"),
        ("chat/completions", [TOOL] * 129, "auto"),
        ("responses", [{"type": "web_search"}], "auto"),
        ("responses", [TOOL], "auto"),
    ],
)
def test_tools_that_are_none_are_refused(url, path, tools, choice):
    said = {"messages": [{"role": "user", "content": ASKED}]} if "chat" in path else {"input": ASKED}
    answer = post(url, path, tools=tools, tool_choice=choice, **said)
    assert (answer.status_code, set(answer.json()["error"])) == (422, {"message", "type", "param", "code"})


def test_what_was_asked_comes_back_in_the_response(url):
    asked = {
        "tools": [FLAT | {"strict": True}],
        "tool_choice": {"type": "function", "name": "get_weather"},
        "parallel_tool_calls": False,
        "truncation": "auto",
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "top_logprobs": 2,
        "temperature": 0.3,
        "top_p": 0.4,
        "reasoning": {"effort": "low", "summary": "auto"},
        "max_tool_calls": 3,
        "max_output_tokens": 77,
        "safety_identifier": "who",
        "prompt_cache_key": "what",
        "metadata": {"a": "b"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }
    body = post(url, "responses", input=ASKED, **asked).json()
    assert {name: body[name] for name in asked} == asked
    Response.model_validate(body)


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_a_cap_on_tokens_holds_for_each_of_a_councils_members(url, models, path):
    said = {"messages": [{"role": "user", "content": ASKED}]} if "chat" in path else {"input": ASKED}
    name = "max_tokens" if "chat" in path else "max_output_tokens"
    for cap, each in ((9, {9}), (400, {300, 400})):  # never above what the operator allows
        del models.bodies[:]
        assert post(url, path, model="eot/plain", **said, **{name: cap}).status_code == 200
        assert {body["max_tokens"] for body in models.bodies} == each


def test_open_responses_compaction(url, models):
    talk = [
        {"type": "message", "role": "user", "content": "My name is Alice."},
        {"type": "message", "role": "assistant", "content": "Hello Alice!"},
    ]
    body = post(url, "responses/compact", input=talk).json()
    assert body["object"] == "response.compaction"
    assert CompactedResponse.model_validate(body).usage.total_tokens > 0
    [item] = body["output"]
    assert item["type"] == "compaction"
    [asked] = models.bodies
    assert (asked["model"], "My name is Alice." in asked["messages"][1]["content"]) == ("strong", True)
    again = post(url, "responses", input=[item, {"type": "message", "role": "user", "content": "Who am I?"}])
    assert again.status_code == 200
    read = models.bodies[1]["messages"][-1]["content"]
    assert "Summary of the conversation before this:\nIt is unknown." in read
    assert "Who am I?" in read


def test_a_stored_response_is_compacted_by_its_name(url, models):
    first = post(url, "responses", input="I am Alice.", model="agent/light").json()
    assert post(url, "responses/compact", previous_response_id=first["id"], model="agent/light").status_code == 200
    assert "I am Alice." in models.bodies[1]["messages"][1]["content"]
    assert post(url, "responses/compact", previous_response_id="resp_none").status_code == 404


def test_open_responses_compaction_without_a_model_is_refused(url):
    answer = httpx.post(f"{url}/v1/responses/compact", json={"input": "Hm?"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "model")
    assert post(url, "responses/compact", model="eot/none", input="Hm?").status_code == 404
    assert post(url, "responses/compact", input=[]).status_code == 400


@pytest.mark.parametrize("content", ["", "no base64!", "aGVsbG8=", "ZW90MQ==", "ZW90MXicAAAA"])
def test_a_compaction_of_elsewhere_is_refused(url, content):
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": content}
    answer = post(url, "responses", input=[item, {"type": "message", "role": "user", "content": "Hm?"}])
    assert (answer.status_code, "was not made by this service" in answer.json()["error"]["message"]) == (400, True)
