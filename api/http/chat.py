"""`/v1/chat/completions`: OpenAI's chat on top of runs."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from api.asks import Ask
from api.chatting import ask_for
from api.http.chat_stream import Chat, chat_stream, think, usage_of
from api.http.chat_types import AnswerMessage, ChatCompletion, ChatRequest, Choice, as_calls
from api.http.errors import ErrorEnvelope
from api.http.keys import Calling
from api.http.service import Serving
from api.http.sse import unless_gone
from api.http.telling import called, final
from api.outcome import outcome
from api.progress import progress
from api.service import Service
from eot.settings import Progress, Settings
from eot.types import Result

router = APIRouter(prefix="/v1", tags=["chat"])


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        404: {"model": ErrorEnvelope},
        429: {"model": ErrorEnvelope},
    },
)
async def chat_completions(body: ChatRequest, request: Request, service: Serving, caller: Calling) -> Response:
    """Put a conversation to a council (`eot/NAME`) or to an agent alone (`agent/NAME`)."""
    if body.stream:
        chat = await begin_chat(service, body, owner=caller.id)
        return chat_stream(chat, service.settings.serve)
    completion = await unless_gone(request, complete_chat(service, body, owner=caller.id))
    return JSONResponse(completion.model_dump(mode="json"))


async def complete_chat(
    service: Service,
    body: ChatRequest,
    *,
    owner: str = "",
    run_id: str | None = None,
    job: bool = False,
    calls: int | None = None,
) -> ChatCompletion:
    """The whole completion. With `run_id` its replies are kept under that name: what is asked again is paid once.

    Raises:
        ApiError, EotError: there is none.
    """
    chat = await begin_chat(service, body, owner=owner, run_id=run_id, job=job, calls=calls)
    try:
        results = await asyncio.gather(*(run.wait() for run in chat.runs))
    finally:
        chat.cancel()
    outcomes = [outcome(result) for result in results]
    shown = service.settings.serve.progress
    return ChatCompletion(
        id=chat.id,
        created=chat.created,
        model=body.model,
        choices=[_choice(chat, index, result, shown) for index, result in enumerate(results)],
        usage=usage_of(results),
        eot=outcomes[0] if len(outcomes) == 1 else outcomes,
    )


async def begin_chat(
    service: Service,
    body: ChatRequest,
    *,
    owner: str = "",
    run_id: str | None = None,
    job: bool = False,
    calls: int | None = None,
) -> Chat:
    """Begin a run for each of the `n` choices; all of them, or none.

    Raises:
        ApiError, EotError: they cannot begin.
    """
    ask = ask_of(body, service.settings)
    chat = Chat(id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), body=body, runs=[])
    try:
        for choice in range(body.n or 1):
            name = f"{run_id}:{choice}" if run_id and choice else run_id
            again = replace(ask, seed=ask.seed + choice)
            share = calls and calls // (body.n or 1)
            run = await service.begin(again, owner=owner, run_id=name, keep=run_id is not None, job=job, calls=share)
            chat.runs.append(run)
    except BaseException:
        chat.cancel()
        raise
    return chat


def ask_of(body: ChatRequest, settings: Settings) -> Ask:
    """The run that this request means.

    Raises:
        ApiError: there is no such model.
        QuestionError: the messages make no question.
    """
    form = body.response_format.fields if body.response_format else {}
    sampling = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "stop": tuple(body.stops) or None,
        "max_tokens": body.max_completion_tokens or body.max_tokens,
    }
    return ask_for(
        body.model, body.conversation, settings, form=form, sampling=sampling, seed=body.seed, options=body.options
    )


def _choice(chat: Chat, index: int, result: Result, shown: Progress) -> Choice:
    run = chat.runs[index]
    said, finish = final(result, chat.body.stops)
    work = "" if run.ask.verbatim else "".join(progress(event) for _, event in run.log)
    if calls := called(result):
        message = AnswerMessage(content=said or None, tool_calls=as_calls(calls))
        return Choice(index=index, message=message, finish_reason="tool_calls")
    if not work or shown == "off":
        message = AnswerMessage(content=said)
    elif shown == "think":
        message = AnswerMessage(content=f"{think(work)}{said}")
    else:
        message = AnswerMessage.model_validate({"content": said, shown: work})
    return Choice(index=index, message=message, finish_reason=finish)
