"""The service as people's own clients see it: the openai SDK, LiteLLM and langchain-openai, over a real socket."""

import json

import openai
import pytest
from pydantic import BaseModel
from serving import serving, settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # LiteLLM's own
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # LiteLLM leaves an event loop behind
]
QUESTION = [{"role": "user", "content": "How many eggs are left?"}]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    agents = {
        "a": ["It is 7. The answer is 7."],
        "b": ["The answer is 7."],
        "c": ["The answer is 8."],
        "dead": ["!fail"],
        "form": ['{"city": "Bern", "people": 3}'],
    }
    councils = {"default": {"agents": ["a", "b", "c"], "lazy": False}, "dead": {"agents": ["dead"]}}
    with serving(settings(tmp_path_factory.mktemp("home"), agents=agents, councils=councils)) as served:
        yield f"{served.url}/v1"


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", timeout=60) as found:
        yield found


class Place(BaseModel):
    city: str
    people: int


def test_the_openai_sdk_chats(client):
    answer = client.chat.completions.create(model="eot/default", messages=QUESTION, seed=1)
    assert answer.choices[0].message.content.endswith("The answer is 7.")
    assert answer.usage.total_tokens > 0
    assert answer.eot["dissent"][0]["agents"] == ["c"]
    assert "c, round 0" in answer.choices[0].message.reasoning_content


def test_the_openai_sdk_streams(client):
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="eot/default", messages=QUESTION, stream=True, stream_options=options)
    )
    said = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in said).endswith("The answer is 7.")
    assert any(getattr(delta, "reasoning_content", None) for delta in said)
    assert chunks[-1].usage.total_tokens > 0


def test_the_openai_sdk_streams_with_its_helper(client):
    with client.chat.completions.stream(model="agent/a", messages=QUESTION) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.content == "It is 7. The answer is 7."


def test_the_openai_sdk_parses_an_answer_into_a_type(client):
    parsed = client.chat.completions.parse(model="agent/form", messages=QUESTION, response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city="Bern", people=3)
    told = client.responses.parse(model="agent/form", input="Where?", text_format=Place)
    assert told.output_parsed == Place(city="Bern", people=3)


def test_the_openai_sdk_makes_responses(client):
    first = client.responses.create(model="eot/default", input="How many eggs are left?")
    assert first.output_text.endswith("The answer is 7.")
    assert first.output[0].type == "reasoning"
    second = client.responses.create(model="eot/default", input="Sure?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(second.id).output_text == second.output_text


def test_the_openai_sdk_streams_responses(client):
    with client.responses.stream(model="eot/default", input="How many eggs are left?") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert "".join(deltas) == stream.get_final_response().output_text


def test_the_openai_sdk_is_told_errors_as_it_expects(client):
    with pytest.raises(openai.NotFoundError, match="There is no model") as missing:
        client.chat.completions.create(model="eot/none", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="eot/default", messages=[])
    with pytest.raises(openai.InternalServerError, match="a scripted failure"):
        client.chat.completions.create(model="eot/dead", messages=QUESTION)
    with pytest.raises(openai.APIError, match="a scripted failure"):
        list(client.chat.completions.create(model="eot/dead", messages=QUESTION, stream=True))


def test_the_openai_sdk_lists_models(client):
    assert "eot/default" in [model.id for model in client.models.list()]
    assert client.models.retrieve("eot/debate").owned_by == "council"


def test_litellm_chats_and_streams(url, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import fetches a price list in a thread
    import litellm  # noqa: PLC0415 - after the variable

    asked = {"model": "openai/eot/default", "messages": QUESTION, "api_base": url, "api_key": "none"}
    answer = litellm.completion(**asked)
    assert answer.choices[0].message.content.endswith("The answer is 7.")
    assert "c, round 0" in answer.choices[0].message.reasoning_content
    chunks = list(litellm.completion(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).endswith("The answer is 7.")


async def test_langchain_chats_streams_and_gives_structure(url):
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - seconds

    council = ChatOpenAI(model="eot/default", base_url=url, api_key="none")
    assert council.invoke("How many eggs are left?").content.endswith("The answer is 7.")
    pieces = [piece.content async for piece in council.astream("How many eggs are left?")]
    assert "".join(pieces).endswith("The answer is 7.")
    form = ChatOpenAI(model="agent/form", base_url=url, api_key="none").with_structured_output(Place)
    assert form.invoke("Where?") == Place(city="Bern", people=3)
    by_responses = ChatOpenAI(model="eot/default", base_url=url, api_key="none", use_responses_api=True)
    assert json.dumps(by_responses.invoke("How many eggs are left?").content).count("The answer is 7.") >= 1
