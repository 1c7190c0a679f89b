"""OpenAI's chat completions as types: what is read of a request (the rest is let pass), and what an answer has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.asks import json_question
from api.conversation import LEFT_OUT, Conversation, conversation
from api.http.types import Asked
from api.outcome import Outcome
from eot.types import Message, ToolCall

MOST_TOOLS = 128


class Part(Asked):
    type: str
    text: str | None = None

    @property
    def readable(self) -> str:
        if self.text is not None:
            return self.text
        return LEFT_OUT if self.type in ("image_url", "input_image", "file", "input_file", "input_audio") else ""


class CalledFunction(Asked):
    name: Annotated[str, Field(max_length=200)]
    arguments: str = ""


class CalledTool(Asked):
    """A tool call of an earlier answer, as it comes back."""

    id: Annotated[str, Field(max_length=200)]
    function: CalledFunction

    @property
    def call(self) -> ToolCall:
        return ToolCall(id=self.id, name=self.function.name, arguments=self.function.arguments)


class ChatMessage(Asked):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: Annotated[list[CalledTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None

    @property
    def turn(self) -> Message | tuple[str, str]:
        if self.role == "assistant" and self.tool_calls:
            return Message(role="assistant", content=self.text, tool_calls=tuple(call.call for call in self.tool_calls))
        if self.role == "tool" and self.tool_call_id:
            return Message(role="tool", content=self.text, tool_call_id=self.tool_call_id)
        return self.role, self.text

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


class Function(Asked):
    """What a tool is called, does and takes. `parameters` is a JSON schema, which goes along unread."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Asked):
    type: Literal["function"]
    function: Function


class FunctionName(Asked):
    name: Annotated[str, Field(max_length=64)]


class NamedTool(Asked):
    type: Literal["function"]
    function: FunctionName


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
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None

    @property
    def conversation(self) -> Conversation:
        return conversation(message.turn for message in self.messages)

    @property
    def options(self) -> dict[str, Any]:
        """What goes along to the one agent that is told of the tools; empty where none may be called."""
        if not self.tools or self.tool_choice == "none":
            return {}
        return self.model_dump(
            include={"tools", "tool_choice", "parallel_tool_calls", "response_format"}, exclude_none=True, by_alias=True
        )

    @property
    def stops(self) -> list[str]:
        texts = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in texts if text]


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnsweredFunction(BaseModel):
    name: str
    arguments: str


class AnsweredCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: AnsweredFunction


def as_calls(calls: Iterable[ToolCall]) -> list[AnsweredCall]:
    return [
        AnsweredCall(id=call.id, function=AnsweredFunction(name=call.name, arguments=call.arguments)) for call in calls
    ]


class AnswerMessage(BaseModel):
    """`reasoning_content` or `reasoning`, as `[serve] progress` has it, comes along where a council was at work."""

    model_config = ConfigDict(extra="allow")

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[AnsweredCall] | None = Field(default=None, exclude_if=lambda calls: calls is None)


class Choice(BaseModel):
    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length", "tool_calls"]
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
