"""A response as it happens: each of its parts is opened, filled and closed by events with running numbers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from api.http.errors import as_api_error
from api.http.response_types import (
    Failure,
    FunctionCallItem,
    Incomplete,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ResponseObject,
    SummaryText,
    call_items,
    usage_of,
)
from api.http.sse import DONE, PING, EventStream, frame
from api.http.telling import Telling, called, final
from api.outcome import outcome
from api.runs import Run
from eot.types import Result, ToolCall

Item = ReasoningItem | OutputMessage | FunctionCallItem
Keep = Callable[[ResponseObject], Awaitable[None]]


@dataclass
class Answering:
    """One response under way: its run, and the body so far, which is also what it ends as."""

    run: Run
    body: ResponseObject
    number: int = -1
    summary: str = ""
    """What the open reasoning item says so far."""
    text: str = ""
    closed: bool = False
    """All of it was said; what is still to come is that it was kept."""

    @property
    def _item(self) -> Item | None:
        return self.body.output[-1] if self.body.output else None

    def event(self, kind: str, **facts: Any) -> bytes:
        self.number += 1
        told = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in facts.items()
        }
        return frame({"type": kind, "sequence_number": self.number, **told}, event=kind)

    def reason(self, text: str) -> Iterator[bytes]:
        """A piece of progress. Once the answer has begun there is nothing to add to but the answer."""
        if isinstance(self._item, OutputMessage):
            yield from self.say("")
            return
        if self._item is None:
            yield from self._open(ReasoningItem(id=f"rs_{self.body.id.removeprefix('resp_')}"))
            yield self._part("response.reasoning_summary_part.added", part=SummaryText())
        self.summary += text
        yield self._part("response.reasoning_summary_text.delta", delta=text)

    def say(self, text: str) -> Iterator[bytes]:
        """A piece of the answer."""
        if not isinstance(self._item, OutputMessage):
            yield from self._close_reasoning()
            yield from self._open(OutputMessage(id=f"msg_{self.body.id.removeprefix('resp_')}"))
            yield self._part("response.content_part.added", part=OutputText())
        self.text += text
        yield self._part("response.output_text.delta", delta=text, logprobs=[])

    def close(self, calls: tuple[ToolCall, ...]) -> Iterator[bytes]:
        """The end of the answer's text, its part and its item, if it has one; then the tools that it calls."""
        self.closed = True
        if isinstance(self._item, OutputMessage) or not calls:
            yield from self._close_text("commentary" if calls else "final_answer")
        else:
            yield from self._close_reasoning()
        for item in call_items(calls, self.body.id.removeprefix("resp_")):
            yield from self._call(item)

    def _call(self, item: FunctionCallItem) -> Iterator[bytes]:
        yield from self._open(item.model_copy(update={"arguments": "", "status": "in_progress"}))
        place = {"item_id": item.id, "output_index": len(self.body.output) - 1}
        yield self.event("response.function_call_arguments.delta", delta=item.arguments, **place)
        yield self.event("response.function_call_arguments.done", arguments=item.arguments, name=item.name, **place)
        yield from self._done({"arguments": item.arguments, "status": "completed"})

    def _close_text(self, phase: str) -> Iterator[bytes]:
        if not isinstance(self._item, OutputMessage):
            yield from self.say("")
        said = OutputText(text=self.text)
        yield self._part("response.output_text.done", text=self.text, logprobs=[])
        yield self._part("response.content_part.done", part=said)
        yield from self._done({"content": [said], "status": "completed", "phase": phase})

    def _open(self, item: Item) -> Iterator[bytes]:
        self.body.output.append(item)
        yield self.event("response.output_item.added", output_index=len(self.body.output) - 1, item=item)

    def _close_reasoning(self) -> Iterator[bytes]:
        if isinstance(self._item, ReasoningItem):
            said = SummaryText(text=self.summary)
            yield self._part("response.reasoning_summary_text.done", text=self.summary)
            yield self._part("response.reasoning_summary_part.done", part=said)
            yield from self._done({"summary": [said], "status": "completed"})

    def _done(self, update: dict[str, Any]) -> Iterator[bytes]:
        assert self._item is not None
        item = self._item.model_copy(update=update)
        self.body.output[-1] = item
        yield self.event("response.output_item.done", output_index=len(self.body.output) - 1, item=item)

    def _part(self, kind: str, **facts: Any) -> bytes:
        item = self._item
        assert item is not None
        place = "summary_index" if isinstance(item, ReasoningItem) else "content_index"
        return self.event(kind, item_id=item.id, output_index=len(self.body.output) - 1, **{place: 0}, **facts)


def response_stream(answering: Answering, telling: Telling, patience: float, keep: Keep) -> EventStream:
    """The response as a stream: a byte at least every `patience` seconds. `keep` stores it before its end is told."""
    return EventStream(_frames(answering, telling, keep), patience=patience, still=partial(_still, answering, telling))


def _still(answering: Answering, telling: Telling) -> bytes:
    return PING + b"".join(_told(answering, {"content": ""} if answering.closed else telling.still()))


async def _frames(answering: Answering, telling: Telling, keep: Keep) -> AsyncGenerator[bytes, None]:
    """When they are closed the run is ended."""
    try:
        async for each in _events(answering, telling, keep):
            yield each
    except Exception as fault:  # noqa: BLE001 - the status is out: only an event can still tell it
        failure = Failure(message=as_api_error(fault).body.message)
        answering.body = answering.body.model_copy(update={"status": "failed", "error": failure})
        yield answering.event("response.failed", response=answering.body)
    finally:
        answering.run.cancel()
    yield DONE


async def _events(answering: Answering, telling: Telling, keep: Keep) -> AsyncGenerator[bytes, None]:
    yield answering.event("response.created", response=answering.body)
    yield answering.event("response.in_progress", response=answering.body)
    async for _, event in answering.run.follow():
        for delta in telling.tell(event):
            for each in _told(answering, delta):
                yield each
    result = await answering.run.wait()
    for delta in telling.end(result):
        for each in _told(answering, delta):
            yield each
    for each in answering.close(called(result)):
        yield each
    answering.body = ended(answering.body, result)
    await keep(answering.body)
    kind = "response.completed" if answering.body.status == "completed" else "response.incomplete"
    yield answering.event(kind, response=answering.body)


def _told(answering: Answering, delta: dict[str, str]) -> Iterator[bytes]:
    if "reasoning_content" in delta:
        yield from answering.reason(delta["reasoning_content"])
    elif delta["content"]:
        yield from answering.say(delta["content"])
    else:  # nothing is to be told, but the connection must not look dead
        yield answering.event("response.in_progress", response=answering.body)


def ended(body: ResponseObject, result: Result) -> ResponseObject:
    """The body of a response whose run has ended with this result, and whose output is there."""
    _, finish = final(result, ())
    cut = finish == "length"
    return body.model_copy(
        update={
            "status": "incomplete" if cut else "completed",
            "incomplete_details": Incomplete() if cut else None,
            "completed_at": int(time.time()),
            "usage": usage_of(result),
            "eot": outcome(result),
        }
    )
