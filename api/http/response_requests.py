"""OpenAI's responses as types: what is read of a request. The rest is let pass."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.asks import json_question
from api.compaction import read_compaction
from api.conversation import Conversation, conversation
from api.http.chat_types import MOST_TOOLS, Function, FunctionName, NamedTool, Part, Tool
from api.http.errors import ApiError
from api.http.types import Asked, Metadata
from eot.types import Message, ToolCall


class InputItem(Asked):
    """A message, or what a tool was asked and gave. Items of other types say nothing that could be read."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[Part] | None = None
    call_id: Annotated[str, Field(max_length=200)] | None = None
    name: Annotated[str, Field(max_length=200)] | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None
    encrypted_content: str | None = None

    @property
    def turn(self) -> Message | tuple[str, str] | None:
        """What it says, if it says anything.

        Raises:
            QuestionError: it is a compaction that was not made here.
        """
        match self.type:
            case "message" if self.role:
                return self.role, _text(self.content)
            case "function_call":
                call = ToolCall(id=self.call_id or "", name=self.name or "", arguments=self.arguments or "")
                return Message(role="assistant", content="", tool_calls=(call,))
            case "function_call_output":
                return Message(role="tool", content=_text(self.output), tool_call_id=self.call_id or "")
            case "compaction":
                return "system", read_compaction(self.encrypted_content or "")
            case _:
                return None


def _text(content: str | list[Part] | None) -> str:
    if isinstance(content, list):
        return "\n".join(filter(None, (part.readable for part in content)))
    return content or ""


class TextFormat(Asked):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Annotated[str, Field(max_length=64)] | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    @property
    def as_chat(self) -> dict[str, Any] | None:
        """The same in a chat completion's words."""
        if self.type != "json_schema":
            return None if self.type == "text" else {"type": self.type}
        told = self.model_dump(include={"name", "strict", "schema_"}, by_alias=True, exclude_none=True)
        return {"type": self.type, "json_schema": {"name": "answer"} | told}


class TextOptions(Asked):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponseTool(Function):
    """A tool as responses name it: flat."""

    type: Literal["function"]

    @property
    def as_chat(self) -> Tool:
        return Tool(type="function", function=Function(**self.model_dump(exclude={"type"})))


class ToolName(Asked):
    type: Literal["function"]
    name: Annotated[str, Field(max_length=64)]

    @property
    def as_chat(self) -> NamedTool:
        return NamedTool(type="function", function=FunctionName(name=self.name))


class Talk(Asked):
    """What is said, by whom; and what was said before."""

    model: Annotated[str, Field(max_length=200)]
    input: str | list[InputItem] | None = None
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(max_length=100)] | None = None

    def talk(self, before: tuple[Message, ...]) -> Conversation:
        """The conversation, after what was said in an earlier response."""
        told = [("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return conversation([*told, *before, ("user", self.input)])
        said = [turn for item in self.input or () if (turn := item.turn)]
        return conversation([*told, *before, *said])


Penalty = Annotated[float, Field(ge=-2, le=2)]
Word = Annotated[str, Field(max_length=512)]


class ResponsesRequest(Talk):
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
    tools: Annotated[list[ResponseTool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolName | None = None
    parallel_tool_calls: bool | None = None
    # What follows comes back in the response as it was sent, and changes nothing: see docs/service.md.
    truncation: Literal["auto", "disabled"] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning: dict[str, Any] | None = None
    max_tool_calls: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    safety_identifier: Word | None = None
    prompt_cache_key: Word | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What goes along to the one agent that is told of the tools; empty where none may be called."""
        if not self.tools or self.tool_choice == "none":
            return {}
        choice = self.tool_choice.as_chat if isinstance(self.tool_choice, ToolName) else self.tool_choice
        told = {
            "tools": [tool.as_chat.model_dump(exclude_none=True) for tool in self.tools],
            "tool_choice": choice.model_dump() if isinstance(choice, NamedTool) else choice,
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": self.text.format.as_chat if self.text and self.text.format else None,
        }
        return {name: value for name, value in told.items() if value is not None}

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
