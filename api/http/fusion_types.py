"""What is asked of fused sets and what they answer: OpenAI's completions, with who had which say in each token."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from api.http.chat_types import AnswerMessage, ChatMessage, ChatUsage, StopTexts, StreamOptions
from api.http.types import Asked
from eot.fusion import FusionSettings
from eot.text import MAX_CHARACTERS, fault_in

Prompts = Annotated[list[str], Field(min_length=1, max_length=32)]
MOST_CHOICES = 32
TRACED = 20


class FusionAsked(Asked):
    """`model` names a set of the server's own, `fusion/NAME`; or `fusion` describes one, as a table of eot.toml would.

    Its members are catalogue names, or agents that run on a local model. `trace`: with every token, so many of each
    member's likeliest ones.
    """

    model: Annotated[str, Field(max_length=200)] = ""
    fusion: FusionSettings | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | StopTexts | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    trace: Annotated[int, Field(ge=0, le=TRACED)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return tuple(text for text in ([self.stop] if isinstance(self.stop, str) else self.stop or []) if text)


class FusionCompletionRequest(FusionAsked):
    """`prompt`: one text to go on from, or several, each answered `n` times."""

    prompt: str | Prompts
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=TRACED)] | None = None

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @model_validator(mode="after")
    def _bounded(self) -> FusionCompletionRequest:
        if len(self.prompts) * (self.n or 1) > MOST_CHOICES:
            raise ValueError(f"{len(self.prompts)} prompts times n: at most {MOST_CHOICES} choices are written at once")
        if (size := sum(map(len, self.prompts))) > MAX_CHARACTERS:
            raise ValueError(f"the prompts have {size:,} characters; at most {MAX_CHARACTERS:,} are taken")
        for prompt in self.prompts:
            if wrong := "it is empty" if not prompt else fault_in(prompt):
                raise ValueError(f"a prompt cannot be gone on from: {wrong}")
        return self


class FusionChatRequest(FusionAsked):
    messages: list[ChatMessage] = Field(min_length=1, max_length=2000)
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=TRACED)] | None = None

    @model_validator(mode="after")
    def _readable(self) -> FusionChatRequest:
        texts = [message.text for message in self.messages]
        if (size := sum(map(len, texts))) > MAX_CHARACTERS:
            raise ValueError(f"the messages have {size:,} characters; at most {MAX_CHARACTERS:,} are taken")
        if wrong := next(filter(None, map(fault_in, texts)), ""):
            raise ValueError(f"a message cannot be sent: {wrong}")
        return self


class TopToken(BaseModel):
    token: str
    logprob: float


class MemberShare(BaseModel):
    """A member's own log probability of the token, and how much of the choice was its doing (0 to 1)."""

    name: str
    logprob: float
    share: float


class MemberTrace(MemberShare):
    """`top`: its own likeliest tokens."""

    top: list[TopToken]


class TracedToken(BaseModel):
    """A token of the fused distribution. `won`: members whose own favourite it was; none where fusion made it so."""

    token: str
    logprob: float
    top: list[TopToken]
    members: list[MemberTrace]
    won: list[str]


class TokenLogprobs(TopToken):
    bytes: list[int] | None
    top_logprobs: list[TopToken]
    members: list[MemberShare]


class ChatLogprobs(BaseModel):
    content: list[TokenLogprobs]


class CompletionLogprobs(BaseModel):
    """OpenAI's older form: lists in step with each other. `members` has the shares."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    members: list[list[MemberShare]]


class FusionChoice(BaseModel):
    """`notes`: remarks on how it came about, such as a member that had to be dropped."""

    index: int
    finish_reason: Literal["stop", "length"]
    notes: list[str]
    trace: list[TracedToken] | None = None


class FusionCompletionChoice(FusionChoice):
    text: str
    logprobs: CompletionLogprobs | None = None


class FusionChatChoice(FusionChoice):
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None


class FusionUsed(BaseModel):
    """The set that wrote: the method in use (what `auto` stood for), its members and their weights, which sum to 1."""

    method: str
    members: list[str]
    weights: list[float]


class FusionCompletion(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[FusionCompletionChoice]
    usage: ChatUsage
    fusion: FusionUsed


class FusionChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[FusionChatChoice]
    usage: ChatUsage
    fusion: FusionUsed


class FusionMethodObject(BaseModel):
    """A method. `options`: the keys that it reads beside `members` and `method`, as JSON schemas."""

    id: str
    object: Literal["fusion.method"] = "fusion.method"
    about: str
    vocabularies: Literal["one", "any"]
    options: dict[str, Any]


class FusionMember(BaseModel):
    """Who may be a member. `chat`: whether it can hold a conversation; null where that is not known."""

    id: str
    model: str
    on_disk: bool
    chat: bool | None


class FusionSet(BaseModel):
    id: str
    method: str
    members: list[str]
    weights: list[float]


class FusionMethodList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FusionMethodObject]
    members: list[FusionMember]
    sets: list[FusionSet]
