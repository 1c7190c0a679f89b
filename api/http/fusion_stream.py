"""A fused set's answer: whole, or piece by piece as server-sent events."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from api.fused import Ended, Piece, Writing, shown, usage_of
from api.http.chat_types import AnswerMessage, ChatUsage
from api.http.errors import as_api_error
from api.http.fusion_told import chat_logprobs, completion_logprobs, traced
from api.http.fusion_types import (
    ChatLogprobs,
    CompletionLogprobs,
    FusionChatChoice,
    FusionChatCompletion,
    FusionChatRequest,
    FusionCompletion,
    FusionCompletionChoice,
    FusionCompletionRequest,
    FusionUsed,
)
from api.http.sse import DONE, PING, frame
from local_models import Generation, TokenLogprob

Body = FusionCompletionRequest | FusionChatRequest
News = Piece | Ended | None


@dataclass(frozen=True)
class Fusing:
    """A request to a set, and what it has become so far; `made` by the choices' places."""

    body: Body
    writing: Writing
    created: int
    made: dict[int, Generation] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def head(self) -> dict[str, Any]:
        name = "chatcmpl-" if self.chat else "cmpl-"
        return {"id": name + self.id, "created": self.created, "model": self.body.model or "fusion"}

    @property
    def chat(self) -> bool:
        return isinstance(self.body, FusionChatRequest)

    @property
    def used(self) -> FusionUsed:
        settings = self.writing.settings
        assert settings is not None, "the set is known once something was written"
        return FusionUsed(
            method=self.writing.method,
            members=[shown(member) for member in settings.members],
            weights=list(settings.shares),
        )

    @property
    def usage(self) -> ChatUsage:
        spent = usage_of([self.made[index] for index in sorted(self.made)])
        return ChatUsage(
            prompt_tokens=spent.input_tokens, completion_tokens=spent.output_tokens, total_tokens=spent.tokens
        )

    def logprobs(self, told: list[TokenLogprob], offset: int = 0) -> ChatLogprobs | CompletionLogprobs | None:
        if isinstance(self.body, FusionChatRequest):
            return chat_logprobs(told, self.body.top_logprobs or 0) if self.body.logprobs else None
        return None if self.body.logprobs is None else completion_logprobs(told, self.body.logprobs, offset)


async def whole(fusing: Fusing) -> FusionCompletion | FusionChatCompletion:
    """The answer, once all its choices are there.

    Raises:
        ApiError, EotError: there is none.
    """
    try:
        async for news in fusing.writing.follow():
            if isinstance(news, Ended):
                fusing.made[news.choice] = news.made
    finally:
        fusing.writing.cancel()
    choices = [_choice(fusing, index) for index in sorted(fusing.made)]
    kind = FusionChatCompletion if fusing.chat else FusionCompletion
    return kind.model_validate(fusing.head | {"choices": choices, "usage": fusing.usage, "fusion": fusing.used})


async def frames(fusing: Fusing, news: AsyncIterator[News], first: News) -> AsyncGenerator[bytes, None]:
    """The stream's frames, `first` at their head. What goes wrong is the last but one; to close it ends the writing."""
    try:
        if fusing.chat:
            for index in range(fusing.writing.ask.choices):
                yield _chunk(fusing, index, {"delta": {"role": "assistant", "content": ""}})
        for one in _told(fusing, first):
            yield one
        async for item in news:
            for one in _told(fusing, item):
                yield one
        if fusing.body.stream_options and fusing.body.stream_options.include_usage:
            yield frame(_head(fusing) | {"choices": [], "usage": fusing.usage.model_dump()})
    except Exception as fault:  # noqa: BLE001 - the status is out: the envelope is all that can still tell it
        yield frame(as_api_error(fault).envelope)
    finally:
        fusing.writing.cancel()
    yield DONE


def _told(fusing: Fusing, news: News) -> list[bytes]:
    if news is None:
        return [PING]
    if isinstance(news, Ended):
        fusing.made[news.choice] = news.made
        last: dict[str, Any] = {"delta": {}} if fusing.chat else {"text": ""}
        end = {"finish_reason": news.made.finish, "notes": list(news.made.notes)}
        return [_chunk(fusing, news.choice, last | end, fusion=fusing.used.model_dump())]
    return _piece(fusing, news)


def _piece(fusing: Fusing, piece: Piece) -> list[bytes]:
    told = [piece.told] if piece.told else []
    offset = fusing.offsets.get(piece.choice, 0)
    logprobs = fusing.logprobs(told, offset) if told else None
    fusing.offsets[piece.choice] = offset + sum(len(one.token) for one in told)
    trace = [one.model_dump() for one in traced(told, fusing.body.trace)] if told and fusing.body.trace else None
    if not (piece.text or logprobs or trace):
        return []
    said: dict[str, Any] = {"delta": {"content": piece.text}} if fusing.chat else {"text": piece.text}
    said["logprobs"] = logprobs.model_dump() if logprobs else None
    return [_chunk(fusing, piece.choice, said | ({"trace": trace} if trace else {}))]


def _chunk(fusing: Fusing, index: int, said: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": index, "logprobs": None, "finish_reason": None, **said}
    return frame(_head(fusing) | {"choices": [choice]} | more)


def _head(fusing: Fusing) -> dict[str, Any]:
    return fusing.head | {"object": "chat.completion.chunk" if fusing.chat else "text_completion"}


def _choice(fusing: Fusing, index: int) -> FusionCompletionChoice | FusionChatChoice:
    made = fusing.made[index]
    told = list(made.logprobs or ())
    common: dict[str, Any] = {
        "index": index,
        "finish_reason": made.finish,
        "notes": list(made.notes),
        "trace": traced(told, fusing.body.trace) if fusing.body.trace else None,
        "logprobs": fusing.logprobs(told),
    }
    if fusing.chat:
        return FusionChatChoice(message=AnswerMessage(content=made.text), **common)
    return FusionCompletionChoice(text=made.text, **common)
