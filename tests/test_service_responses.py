"""Responses over a real socket: Open Responses' HTTP checks, ported, and what they do not look at."""

import json

import httpx
import pytest
from chat_server import serving as upstream
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from serving import serving, settings

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")  # LiteLLM's own
EVENT = TypeAdapter(ResponseStreamEvent)
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
FIELDS = {
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    agents = {"a": ["It is 7. The answer is 7."], "b": ["The answer is 7."], "dead": ["!fail"], "slow": ["!hang"]}
    councils = {"default": {"agents": ["a", "b"]}, "dead": {"agents": ["dead"]}, "slow": {"agents": ["slow", "a"]}}
    wanted = settings(
        tmp_path_factory.mktemp("home"), agents=agents, councils=councils, serve={"keep_alive_seconds": 0.2}
    )
    with serving(wanted) as served:
        yield served.url


def ask(url, said="How many eggs are left?", model="eot/default", **more):
    return httpx.post(f"{url}/v1/responses", json={"model": model, "input": said} | more, timeout=60)


def streamed(url, said="How many eggs are left?", model="eot/default", until=None, **more):
    """The stream's events, each checked against OpenAI's own types."""
    body = {"model": model, "input": said, "stream": True} | more
    found = []
    with httpx.stream("POST", f"{url}/v1/responses", json=body, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        names = []
        for line in answer.iter_lines():
            if line.startswith("event: "):
                names.append(line[7:])
            if line.startswith("data: {"):
                found.append(json.loads(line[6:]))
                EVENT.validate_python(found[-1])
                if found[-1]["type"] == until:
                    return found
    assert line or found
    assert names == [event["type"] for event in found]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def user(text):
    return {"type": "message", "role": "user", "content": text}


SEE = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": PIXEL}]
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}},
        "required": ["location"],
    },
}
CHECKS = {
    "basic text": [user("Say hello in exactly 3 words.")],
    "system prompt": [{"type": "message", "role": "system", "content": "Be a pirate."}, user("Say hello.")],
    "image input": [user(SEE)],
    "several turns": [
        user("My name is Alice."),
        {"type": "message", "role": "assistant", "content": "Hello Alice!"},
        user("What is my name?"),
    ],
    "assistant phase": [
        user("Hi."),
        {
            "type": "message",
            "role": "assistant",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "Hm."}],
        },
        user("Go on."),
    ],
}


@pytest.mark.parametrize("model", ["eot/default", "agent/a"])
@pytest.mark.parametrize("check", CHECKS)
def test_open_responses_asks(url, check, model):
    body = ask(url, CHECKS[check], model).json()
    assert set(body) >= FIELDS
    assert body["status"] == "completed"
    response = Response.model_validate(body)
    assert response.output_text in ("It is 7. The answer is 7.", "The answer is 7.")
    assert body["output"][-1]["phase"] in ("commentary", "final_answer", None)
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + body["usage"]["output_tokens"]


@pytest.mark.parametrize("model", ["eot/default", "agent/a"])
def test_open_responses_streams(url, model):
    found = streamed(url, [user("Count from 1 to 5.")], model)
    names = [event["type"] for event in found]
    assert names[:2] == ["response.created", "response.in_progress"]
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    whole = found[-1]["response"]
    said = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    assert said == whole["output"][-1]["content"][0]["text"]
    assert said.endswith("The answer is 7.")
    assert Response.model_validate(whole).status == "completed"


def test_a_councils_work_is_a_reasoning_summary(url):
    found = streamed(url)
    deltas = "".join(event["delta"] for event in found if event["type"] == "response.reasoning_summary_text.delta")
    assert "b, round 0:\nThe answer is 7." in deltas
    thought, answer = found[-1]["response"]["output"]
    assert (thought["type"], thought["status"], answer["type"]) == ("reasoning", "completed", "message")
    assert thought["summary"][0]["text"] == deltas
    assert sorted(ask(url).json()["output"][0]["summary"][0]["text"].split("\n\n")) == sorted(deltas.split("\n\n"))


def test_the_response_says_how_the_crowd_decided(url):
    assert ask(url).json()["eot"]["answer"] == "7"
    assert streamed(url)[-1]["response"]["eot"]["how"] == "unanimous 2 of 2"


def test_silence_is_filled(url):
    found = streamed(url, model="eot/slow", until="response.reasoning_summary_text.delta")
    assert found[-1]["delta"]


def test_a_conversation_goes_on_from_a_stored_response(tmp_path):
    with upstream(lambda number, body: f"Answer {number}.") as server:
        agents = {"one": {"model": "openai/m", "base_url": server.url, "api_key": "none"}}
        with serving(settings(tmp_path, agents=agents)) as served:
            first = ask(served.url, "I am Alice.", "agent/one", instructions="Be brief.").json()
            second = ask(served.url, "Who am I?", "agent/one", previous_response_id=first["id"]).json()
            third = streamed(served.url, "Sure?", "agent/one", previous_response_id=second["id"])[-1]["response"]
            asked = [[message["content"] for message in body["messages"]] for body in server.bodies]
            assert asked[0] == ["Be brief.", "I am Alice."]
            assert asked[1] == ["I am Alice.", "Answer 0.", "Who am I?"], "instructions hold for one response"
            assert asked[2] == ["I am Alice.", "Answer 0.", "Who am I?", "Answer 1.", "Sure?"]
            assert third["previous_response_id"] == second["id"]
            kept = httpx.get(f"{served.url}/v1/responses/{third['id']}").json()
            assert kept == third
            gone = httpx.delete(f"{served.url}/v1/responses/{third['id']}").json()
            assert gone == {"id": third["id"], "object": "response", "deleted": True}
            assert httpx.get(f"{served.url}/v1/responses/{third['id']}").status_code == 404


def test_what_is_not_to_be_stored_is_not(url):
    made = ask(url, store=False).json()
    assert made["store"] is False
    assert httpx.get(f"{url}/v1/responses/{made['id']}").status_code == 404
    again = ask(url, previous_response_id=made["id"])
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


def test_a_schema_is_kept_to(tmp_path):
    agents = {"a": ['{"n": 7}'], "b": ['So: {"n": 7}'], "c": ['{"n": "seven"}']}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": schema}}
    with serving(settings(tmp_path, agents=agents)) as served:
        made = ask(served.url, text=form).json()
        assert json.loads(made["output"][-1]["content"][0]["text"]) == {"n": 7}
        assert made["text"]["format"]["schema"] == schema


def test_a_failure_in_mid_stream_is_an_event(url):
    last = streamed(url, model="eot/dead")[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"]["code"] == "server_error", "OpenAI's types know no other"
    assert "a scripted failure" in last["response"]["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "eot/none"}, 404, "model"),
        ({"model": None}, 422, "model"),
        ({"input": []}, 400, None),
        ({"input": [{"type": "message", "role": "robot", "content": "x"}]}, 422, "input.0.role"),
        ({"background": True}, 400, "background"),
        ({"previous_response_id": "resp_none"}, 404, "response_id"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(url, body, status, param):
    answer = httpx.post(f"{url}/v1/responses", json={"model": "eot/default", "input": "Why?"} | body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
