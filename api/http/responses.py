"""`/v1/responses`: OpenAI's responses, and Open Responses, on top of runs."""

from __future__ import annotations

import time
import uuid

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from api.asks import Ask
from api.chatting import ask_for
from api.http.errors import ApiError, ErrorEnvelope
from api.http.response_requests import ResponsesRequest
from api.http.response_stream import Answering, ended, response_stream
from api.http.response_types import (
    DeletedResponse,
    FunctionCallItem,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ResponseObject,
    SummaryText,
    call_items,
)
from api.http.service import Owner, Serving
from api.http.sse import unless_gone
from api.http.telling import Telling, called, final
from api.progress import progress
from api.runs import Run
from api.service import Service
from api.store.rows import Response as Row
from eot.settings import Progress, Settings
from eot.types import Message, ToolCall

router = APIRouter(prefix="/v1/responses", tags=["responses"], responses={404: {"model": ErrorEnvelope}})
_ECHOED = set(ResponsesRequest.model_fields) & set(ResponseObject.model_fields) - {"store", "background"}
"""What was asked and comes back as it was."""
_KEPT = 30 * 24 * 3600.0


@router.post(
    "",
    response_model=ResponseObject,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        429: {"model": ErrorEnvelope},
    },
)
async def create_response(body: ResponsesRequest, request: Request, service: Serving, owner: Owner) -> Response:
    """Put a conversation to a council (`eot/NAME`) or to an agent alone (`agent/NAME`)."""
    if not body.stream:
        made = await unless_gone(request, complete_response(service, body, owner=owner))
        return JSONResponse(made.model_dump(mode="json"))
    run, talk = await _begin(service, body, owner=owner)
    answering = Answering(run, _opened(body))
    shown: Progress = "off" if service.settings.serve.progress == "off" else "reasoning_content"

    async def keep(ended: ResponseObject) -> None:
        await _keep(service, ended, talk, owner)

    return response_stream(answering, Telling(run, shown, ()), service.settings.serve.keep_alive_seconds, keep)


async def complete_response(
    service: Service,
    body: ResponsesRequest,
    *,
    owner: str = "",
    run_id: str | None = None,
    job: bool = False,
    calls: int | None = None,
) -> ResponseObject:
    """The whole response. With `run_id` its replies are kept under that name: what is asked again is paid once.

    Raises:
        ApiError, EotError: there is none.
    """
    run, talk = await _begin(service, body, owner=owner, run_id=run_id, job=job, calls=calls)
    try:
        result = await run.wait()
    finally:
        run.cancel()
    opened = _opened(body)
    name = opened.id.removeprefix("resp_")
    text, _ = final(result, ())
    wanted = call_items(called(result), name)
    said = OutputMessage(
        id=f"msg_{name}",
        status="completed",
        content=[OutputText(text=text)],
        phase="commentary" if wanted else "final_answer",
    )
    work = "" if run.ask.verbatim else "".join(progress(event) for _, event in run.log)
    thought = ReasoningItem(id=f"rs_{name}", status="completed", summary=[SummaryText(text=work)])
    shown = [thought] if work and service.settings.serve.progress != "off" else []
    made = ended(
        opened.model_copy(update={"output": [*shown, *([said] if text or not wanted else []), *wanted]}), result
    )
    await _keep(service, made, talk, owner)
    return made


@router.get("/{response_id}")
async def get_response(response_id: str, service: Serving, owner: Owner) -> ResponseObject:
    return ResponseObject.model_validate((await _row(service, response_id, owner)).body)


@router.delete("/{response_id}")
async def delete_response(response_id: str, service: Serving, owner: Owner) -> DeletedResponse:
    row = await _row(service, response_id, owner)
    await service.store.responses.delete(row.id)
    return DeletedResponse(id=row.id)


async def _begin(
    service: Service,
    body: ResponsesRequest,
    *,
    owner: str,
    run_id: str | None = None,
    job: bool = False,
    calls: int | None = None,
) -> tuple[Run, tuple[Message, ...]]:
    """The run, and the conversation that the next response may go on with."""
    body.refuse_what_cannot_be()
    before = await said_before(service, body.previous_response_id, owner)
    ask = ask_of_response(body, service.settings, before)
    run = await service.begin(ask, owner=owner, run_id=run_id, keep=run_id is not None, job=job, calls=calls)
    uninstructed = body.model_copy(update={"instructions": None})  # they hold for one response
    return run, uninstructed.talk(before).messages


def ask_of_response(body: ResponsesRequest, settings: Settings, before: tuple[Message, ...] = ()) -> Ask:
    """The run that this request means, after what was said in an earlier response.

    Raises:
        ApiError: there is no such model.
        QuestionError: the messages make no question.
    """
    sampling = {"temperature": body.temperature, "top_p": body.top_p, "max_tokens": body.max_output_tokens}
    return ask_for(
        body.model,
        body.talk(before),
        settings,
        form=body.form,
        sampling=sampling,
        seed=body.seed,
        options=body.options,
    )


async def _keep(service: Service, made: ResponseObject, talk: tuple[Message, ...], owner: str) -> None:
    if not made.store:
        return
    said = [part.text for item in made.output if isinstance(item, OutputMessage) for part in item.content]
    calls = tuple(
        ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
        for item in made.output
        if isinstance(item, FunctionCallItem)
    )
    answer = Message(role="assistant", content="".join(said), tool_calls=calls)
    row = Row(id=made.id, owner=owner, body=made.model_dump(mode="json"), messages=(*talk, answer))
    await service.store.responses.save(row, time.time() + _KEPT)


async def said_before(service: Service, response_id: str | None, owner: str) -> tuple[Message, ...]:
    """The conversation that an earlier response ended; nothing where there was none."""
    return (await _row(service, response_id, owner)).messages if response_id else ()


async def _row(service: Service, response_id: str, owner: str) -> Row:
    row = await service.store.responses.load(response_id)
    if row is None or row.owner != owner:
        raise ApiError(404, "there is no such response, or it was not stored", param="response_id", code="not_found")
    return row


def _opened(body: ResponsesRequest) -> ResponseObject:
    """The response at its beginning; what was asked comes back in it."""
    told = body.model_dump(include=_ECHOED, by_alias=True, exclude_none=True)
    if "text" in told:
        told["text"] = {"format": {"type": "text"}} | told["text"]
    for tool in told.get("tools", ()):
        for name in ("description", "parameters", "strict"):
            tool.setdefault(name, None)
    store = body.store is not False
    return ResponseObject(id=f"resp_{uuid.uuid4().hex}", created_at=int(time.time()), store=store, **told)
