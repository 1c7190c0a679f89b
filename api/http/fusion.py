"""`/v1/fusion`: local models that decide each token together, by OpenAI's completions and chat."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from api.fused import FusedAsk, Writing, described, fusable, sets_of, shown
from api.http.errors import ErrorEnvelope
from api.http.fusion_stream import Body, Fusing, frames, whole
from api.http.fusion_types import (
    FusionChatCompletion,
    FusionChatRequest,
    FusionCompletion,
    FusionCompletionRequest,
    FusionMember,
    FusionMethodList,
    FusionMethodObject,
    FusionSet,
)
from api.http.keys import Calling
from api.http.service import Serving
from api.http.sse import EventStream, unless_gone
from api.service import Service
from eot.errors import EotError, UnknownNameError
from eot.fusion import ABOUT, ONE_VOCABULARY, READS, FusionSettings
from eot.settings import Settings
from local_models import CATALOGUE, Sampling, built, on_disk, own_path

router = APIRouter(prefix="/v1/fusion", tags=["fusion"])
_ROLES = {"developer": "system", "tool": "user", "function": "user"}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    400: {"model": ErrorEnvelope},
    404: {"model": ErrorEnvelope},
    429: {"model": ErrorEnvelope},
    503: {"model": ErrorEnvelope, "description": "A member's weights are not on this machine, or torch is not."},
}


@router.get("/methods")
async def list_methods(service: Serving) -> FusionMethodList:
    """The methods with the keys that they read, who may be a member, and the sets that there are."""
    return await asyncio.to_thread(_methods, service.settings)


@router.post("/completions", response_model=FusionCompletion, responses=_RESPONSES)
async def fusion_completions(
    body: FusionCompletionRequest, request: Request, service: Serving, caller: Calling
) -> Response:
    """Go on from a prompt, or from several, by a set that decides each token together."""
    sampling = _sampling(body, body.max_tokens or 16, -1 if body.logprobs is None else body.logprobs)
    return await _answer(service, body, request, _ask(service, body, body.prompts, sampling), caller.id)


@router.post("/chat/completions", response_model=FusionChatCompletion, responses=_RESPONSES)
async def fusion_chat_completions(
    body: FusionChatRequest, request: Request, service: Serving, caller: Calling
) -> Response:
    """Answer a conversation by a set that decides each token together; each member reads it in its own template."""
    messages = [{"role": _ROLES.get(one.role, one.role), "content": one.text} for one in body.messages]
    most = body.max_completion_tokens or body.max_tokens or Sampling().max_tokens
    sampling = _sampling(body, most, (body.top_logprobs or 0) if body.logprobs else -1)
    return await _answer(service, body, request, _ask(service, body, messages, sampling), caller.id)


async def _answer(service: Service, body: Body, request: Request, ask: FusedAsk, owner: str) -> Response:
    service.refuse_when_draining()
    fusing = Fusing(body, Writing(service, ask, owner), int(time.time()))
    if not body.stream:
        made = await unless_gone(request, whole(fusing))
        return JSONResponse(made.model_dump(mode="json", exclude_none=False))
    news = fusing.writing.follow(service.settings.serve.keep_alive_seconds)
    try:  # until there is news the status can still say what went wrong
        first = await unless_gone(request, anext(news))
    except BaseException:
        fusing.writing.cancel()
        raise
    return EventStream(frames(fusing, news, first))


def _ask(service: Service, body: Body, prompts: Any, sampling: Sampling) -> FusedAsk:
    """What is to be written, by whom.

    Raises:
        UnknownNameError: there is no such set, or no such member.
        InputError: the set cannot be.
    """
    settings, chat = service.settings, isinstance(body, FusionChatRequest)
    if body.fusion:
        name = "+".join(shown(member) for member in body.fusion.members)
        return FusedAsk(name, described(body.fusion, settings), prompts, sampling, body.n or 1, chat)
    if body.model not in sets_of(settings):
        raise UnknownNameError("fused set", body.model, sets_of(settings))
    return FusedAsk(body.model, None, prompts, sampling, body.n or 1, chat)


def _sampling(body: Body, max_tokens: int, logprobs: int) -> Sampling:
    """`logprobs`: how many alternatives are asked for, -1 for no log probabilities at all."""
    own = Sampling()
    return Sampling(
        temperature=own.temperature if body.temperature is None else body.temperature,
        top_p=own.top_p if body.top_p is None else body.top_p,
        max_tokens=max_tokens,
        stop=body.stops,
        seed=body.seed,
        top_logprobs=max(body.trace or 0, 1 if logprobs == 0 else logprobs, 0),
    )


def _methods(settings: Settings) -> FusionMethodList:
    keys = FusionSettings.model_json_schema()["properties"]
    return FusionMethodList(
        data=[
            FusionMethodObject(
                id=name,
                about=about,
                vocabularies="one" if name in ONE_VOCABULARY else "any",
                options={key: keys[key] for key in sorted(READS[name])},
            )
            for name, about in ABOUT.items()
        ],
        members=[_member(name, model, settings) for name, model in fusable(settings).items()],
        sets=[
            FusionSet(
                id=name,
                method=table.method,
                members=[shown(member) for member in table.members],
                weights=list(table.shares),
            )
            for name, table in sets_of(settings).items()
        ],
    )


def _member(name: str, model: str, settings: Settings) -> FusionMember:
    known = CATALOGUE.get(model)
    try:
        here = on_disk(model, settings.home) if known else built(model, settings.home) or own_path(model)
    except EotError:
        here = None
    return FusionMember(id=name, model=shown(model), on_disk=here is not None, chat=known.chat if known else None)
