"""OpenAI's responses as types: the whole of an answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from api.outcome import Outcome
from eot.types import Result, ToolCall

Status = Literal["in_progress", "completed", "incomplete", "failed"]


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
    phase: Literal["commentary", "final_answer"] = "final_answer"
    """Commentary where tool calls come after it."""


class FunctionCallItem(BaseModel):
    """A tool that the asker is to call."""

    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str = ""
    status: Literal["in_progress", "completed"] = "in_progress"


def call_items(calls: tuple[ToolCall, ...], name: str) -> list[FunctionCallItem]:
    return [
        FunctionCallItem(
            id=f"fc_{name}_{place}", call_id=call.id, name=call.name, arguments=call.arguments, status="completed"
        )
        for place, call in enumerate(calls)
    ]


class CompactionItem(BaseModel):
    """What a conversation came to, to be sent back in its place."""

    type: Literal["compaction"] = "compaction"
    id: str
    encrypted_content: str


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


def usage_of(result: Result) -> ResponseUsage:
    spent = result.exchange.usage
    return ResponseUsage(input_tokens=spent.input_tokens, output_tokens=spent.output_tokens, total_tokens=spent.tokens)


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
    output: list[ReasoningItem | OutputMessage | FunctionCallItem] = []
    error: Failure | None = None
    tools: list[Any] = []
    tool_choice: str | dict[str, Any] = "auto"
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


class CompactionObject(BaseModel):
    """A conversation made shorter: `output` is the input to go on with."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[CompactionItem]
    usage: ResponseUsage
    eot: Outcome | None = None


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True
