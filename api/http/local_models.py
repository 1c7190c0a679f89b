"""`/v1/local-models`: the catalogue, what of it lies on this disk, and pulling what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.http.errors import ErrorEnvelope, as_api_error
from api.http.service import Serving
from api.http.sse import EventStream, frame
from api.pulling import Pull
from api.service import Service
from eot.errors import EotError
from local_models import CATALOGUE, on_disk
from local_models.catalogue import Model

router = APIRouter(prefix="/v1/local-models", tags=["catalogue"])
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


class LocalModelObject(BaseModel):
    """A model of the catalogue. `terms` is to be read before it is pulled; `agents` run on it."""

    id: str
    object: Literal["local_model"] = "local_model"
    bytes: int
    licence: str
    terms: str
    context_tokens: int
    chat: bool
    on_disk: bool
    pulling: bool
    agents: list[str]


class LocalModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[LocalModelObject]


@router.get("")
async def list_local_models(service: Serving) -> LocalModelList:
    return LocalModelList(data=await asyncio.to_thread(_all, service))


@router.post("/{name}/pull", response_class=EventStream, responses={**_STREAM, 404: {"model": ErrorEnvelope}})
async def pull_local_model(name: str, service: Serving) -> EventStream:
    """Bring its weights: events `progress`, then `pulled`, or `error`. Who leaves does not end it."""
    return EventStream(_frames(service.pulls.begin(name)), patience=service.settings.serve.keep_alive_seconds)


def _all(service: Service) -> list[LocalModelObject]:
    return [_object(model, service) for model in CATALOGUE.values()]


def _object(model: Model, service: Service) -> LocalModelObject:
    settings = service.settings
    return LocalModelObject(
        id=model.name,
        bytes=model.bytes,
        licence=model.licence,
        terms=model.terms,
        context_tokens=model.context_tokens,
        chat=model.chat,
        on_disk=on_disk(model.name, settings.home) is not None,
        pulling=model.name in service.pulls,
        agents=[name for name, agent in settings.agents.items() if agent.model == f"local/{model.name}"],
    )


async def _frames(pull: Pull) -> AsyncGenerator[bytes, None]:
    try:
        async for now in pull.follow():
            told = {"source": now.source, "done": now.done, "total": now.total, "note": now.note}
            yield frame(told, event="progress")
    except EotError as fault:
        yield frame(as_api_error(fault).envelope, event="error")
    else:
        yield frame({}, event="pulled")
