"""A chat completion as it happens: the role at once, the council's progress as reasoning, then the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from api.http.chat_types import ChatRequest, ChatUsage, as_calls
from api.http.errors import as_api_error
from api.http.sse import DONE, PING, EventStream, frame
from api.http.telling import Delta, Telling, called, final
from api.http.together import together
from api.outcome import outcome
from api.runs import Run
from eot.settings import ServeSettings
from eot.types import Finish, Result, Usage


@dataclass(frozen=True)
class Chat:
    """One completion under way: its name, when it was asked, and a run for each choice."""

    id: str
    created: int
    body: ChatRequest
    runs: list[Run]

    def cancel(self) -> None:
        """End what is still under way: nobody waits for it."""
        for run in self.runs:
            run.cancel()


def chat_stream(chat: Chat, serve: ServeSettings) -> EventStream:
    """The completion as a stream: a byte at least every `keep_alive_seconds`."""
    tellings = [Telling(run, serve.progress, chat.body.stops) for run in chat.runs]
    return EventStream(
        _frames(chat, tellings), patience=serve.keep_alive_seconds, still=partial(_still, chat, tellings)
    )


def _still(chat: Chat, tellings: Sequence[Telling]) -> bytes:
    """A comment may not count with a client that waits for something: a delta goes along."""
    return PING + b"".join(_chunk(chat, index, telling.still()) for index, telling in enumerate(tellings))


async def _frames(chat: Chat, tellings: Sequence[Telling]) -> AsyncGenerator[bytes, None]:
    """Whatever goes wrong is the last frame but one; when they are closed the runs are ended."""
    try:
        async for chunk in _chunks(chat, tellings):
            yield chunk
    except Exception as fault:  # noqa: BLE001 - the status is out: the envelope is all that can still tell it
        yield frame(as_api_error(fault).envelope)
    finally:
        chat.cancel()
    yield DONE


async def _chunks(chat: Chat, tellings: Sequence[Telling]) -> AsyncGenerator[bytes, None]:
    for index in range(len(tellings)):
        yield _chunk(chat, index, {"role": "assistant", "content": ""})
    async for index, (_, event) in together([run.follow() for run in chat.runs]):
        for delta in tellings[index].tell(event):
            yield _chunk(chat, index, delta)
    results = [await run.wait() for run in chat.runs]
    for index, (telling, result) in enumerate(zip(tellings, results, strict=True)):
        for delta in telling.end(result):
            yield _chunk(chat, index, delta)
        _, finish = final(result, chat.body.stops)
        if calls := as_calls(called(result)):
            told = [{"index": place, **call.model_dump()} for place, call in enumerate(calls)]
            yield _chunk(chat, index, {"tool_calls": told})
        yield _chunk(chat, index, {}, "tool_calls" if calls else finish, eot=outcome(result).model_dump(mode="json"))
    if chat.body.stream_options and chat.body.stream_options.include_usage:
        yield frame(_head(chat) | {"choices": [], "usage": usage_of(results).model_dump()})


def _chunk(
    chat: Chat, index: int, delta: Delta, finish: Finish | Literal["tool_calls"] | None = None, **more: Any
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return frame(_head(chat) | {"choices": [choice]} | more)


def _head(chat: Chat) -> dict[str, Any]:
    return {"id": chat.id, "object": "chat.completion.chunk", "created": chat.created, "model": chat.body.model}


def think(work: str) -> str:
    return f"<think>\n{work}</think>\n\n"


def usage_of(results: Iterable[Result]) -> ChatUsage:
    """Tokens of all agents in all rounds, since that is what was paid."""
    spent = sum((result.exchange.usage for result in results), Usage())
    return ChatUsage(prompt_tokens=spent.input_tokens, completion_tokens=spent.output_tokens, total_tokens=spent.tokens)
