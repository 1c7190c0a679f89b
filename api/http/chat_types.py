"""OpenAI's chat completions as types: what is read of a request (the rest is let pass), and what an answer has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.asks import json_question
from api.conversation import LEFT_OUT, Conversation, conversation
from api.http.types import Asked
from api.outcome import Outcome


class Part(Asked):
    type: str
    text: str | None = None

    @property
    def readable(self) -> str:
        if self.text is not None:
            return self.text
        return LEFT_OUT if self.type in ("image_url", "input_image", "file", "input_file", "input_audio") else ""


class ChatMessage(Asked):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(filter(None, (part.readable for part in self.content)))
        return self.content or ""


class StreamOptions(Asked):
    include_usage: bool | None = None


class JsonSchema(Asked):
    name: str = Field(default="", max_length=64)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(Asked):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What it makes of a question."""
        if self.type == "text":
            return {}
        told = self.json_schema.schema_ if self.json_schema and self.type == "json_schema" else None
        return json_question({"type": "object"} if told is None else told)


StopTexts = Annotated[list[str], Field(max_length=4)]


class ChatRequest(Asked):
    model: Annotated[str, Field(max_length=200)]
    messages: list[ChatMessage] = Field(min_length=1, max_length=2000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | StopTexts | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    response_format: ResponseFormat | None = None

    @property
    def conversation(self) -> Conversation:
        return conversation((message.role, message.text) for message in self.messages)

    @property
    def stops(self) -> list[str]:
        texts = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in texts if text]


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """`reasoning_content` or `reasoning`, as `[serve] progress` has it, comes along where a council was at work."""

    model_config = ConfigDict(extra="allow")

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatCompletion(BaseModel):
    """The answer. `eot` has what each choice's run came to, in the order of the choices; one choice has it bare."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    eot: Outcome | list[Outcome]
