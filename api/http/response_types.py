"""OpenAI's responses as types: what is read of a request (the rest is let pass), and the whole of an answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from api.asks import json_question
from api.conversation import Conversation, conversation
from api.http.chat_types import Part
from api.http.errors import ApiError
from api.http.types import Asked, Metadata
from api.outcome import Outcome
from eot.types import Message

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class InputItem(Asked):
    """A message, or what a tool was asked and gave. Items of other types say nothing that could be read."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[Part] | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    @property
    def turn(self) -> tuple[str, str] | None:
        """(role, text), if it says anything."""
        match self.type:
            case "message" if self.role:
                return self.role, _text(self.content)
            case "function_call":
                return "assistant", f"[called the tool {self.name or ''}({self.arguments or ''})]"
            case "function_call_output":
                return "tool", _text(self.output)
            case _:
                return None


def _text(content: str | list[Part] | None) -> str:
    if isinstance(content, list):
        return "\n".join(filter(None, (part.readable for part in content)))
    return content or ""


class TextFormat(Asked):
    type: Literal["text", "json_object", "json_schema"] = "text"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class TextOptions(Asked):
    format: TextFormat | None = None


class ResponsesRequest(Asked):
    model: Annotated[str, Field(max_length=200)]
    input: str | list[InputItem]
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(max_length=100)] | None = None
    store: bool | None = None
    stream: bool | None = None
    background: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    text: TextOptions | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """Not OpenAI's: the same seed again gives jobs the same run."""
    metadata: Metadata | None = None

    def talk(self, before: tuple[Message, ...]) -> Conversation:
        """The conversation, after what was said in an earlier response."""
        said = [("user", self.input)] if isinstance(self.input, str) else [item.turn for item in self.input]
        told = [("system", self.instructions)] if self.instructions else []
        return conversation([*told, *((message.role, message.content) for message in before), *filter(None, said)])

    @property
    def form(self) -> dict[str, Any]:
        """What the wanted format makes of a question."""
        wanted = self.text.format if self.text else None
        if wanted is None or wanted.type == "text":
            return {}
        return json_question(wanted.schema_ if wanted.type == "json_schema" and wanted.schema_ else {"type": "object"})

    def refuse_what_cannot_be(self) -> None:
        if self.background:
            raise ApiError(
                400, "background responses are not made here; POST /v1/runs goes on by itself", param="background"
            )


class OutputText(BaseModel):
    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[Any] = []
    logprobs: list[Any] = []


class SummaryText(BaseModel):
    type: Literal["summary_text"] = "summary_text"
    text: str = ""


class ReasoningItem(BaseModel):
    """What the council did on the way."""

    type: Literal["reasoning"] = "reasoning"
    id: str
    status: Literal["in_progress", "completed"] = "in_progress"
    summary: list[SummaryText] = []


class OutputMessage(BaseModel):
    type: Literal["message"] = "message"
    id: str
    status: Literal["in_progress", "completed", "incomplete"] = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = []
    phase: Literal["final_answer"] = "final_answer"


class InputDetails(BaseModel):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(BaseModel):
    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens of all agents in all rounds, since that is what was paid."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens_details: OutputDetails = OutputDetails()


class Failure(BaseModel):
    code: Literal["server_error"] = "server_error"
    message: str


class Incomplete(BaseModel):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseObject(BaseModel):
    """A response. `eot` has what the run came to; what is asked for and not used here comes back as it was."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Status = "in_progress"
    incomplete_details: Incomplete | None = None
    model: str
    previous_response_id: str | None = None
    instructions: str | None = None
    output: list[ReasoningItem | OutputMessage] = []
    error: Failure | None = None
    tools: list[Any] = []
    tool_choice: str = "auto"
    truncation: str = "disabled"
    parallel_tool_calls: bool = True
    text: dict[str, Any] = {"format": {"type": "text"}}
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int = 0
    temperature: float = 1.0
    reasoning: dict[str, Any] | None = None
    usage: ResponseUsage | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    store: bool = True
    background: bool = False
    service_tier: str = "default"
    metadata: dict[str, str] = {}
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    eot: Outcome | None = None


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True
