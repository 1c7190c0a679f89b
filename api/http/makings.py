"""What every kind of job that makes models has on HTTP: listed, looked at, followed and ended, all the same way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from api.http.errors import ApiError, ErrorEnvelope
from api.http.files import owned_file
from api.http.graft_types import Brought
from api.http.service import Owner, Serving
from api.http.sse import PING, EventStream, frame
from api.making import Order
from api.service import Service
from api.store import File, Making
from eot.errors import InputError
from local_models import locate

PURPOSE = "training"
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope}}
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_LOOK = 0.5
"""Seconds between two looks at a job that is followed."""
_OVER = ("completed", "failed", "cancelled")


class MakingObject(BaseModel):
    """A job. `model` is the name that its model has or will have: an agent runs it as `local/MODEL`."""

    id: str
    object: Literal["model_job"] = "model_job"
    kind: str
    action: str
    model: str
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    request: dict[str, Any]
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: str
    created_at: int
    begun_at: int | None
    ended_at: int | None


class MakingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[MakingObject]
    has_more: bool


class MakingForgotten(BaseModel):
    id: str
    object: Literal["model_job.deleted"] = "model_job.deleted"
    deleted: Literal[True] = True


def router(prefix: str, kind: str) -> APIRouter:
    """Routes of one kind of job: GET of all and of one, its events, DELETE. Whoever calls adds the POST."""
    made = APIRouter(prefix=prefix, tags=["models"], responses=_NOT_FOUND)

    @made.get("", operation_id=f"list_{kind}_jobs")
    async def list_jobs(
        service: Serving,
        owner: Owner,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=200)] = None,
    ) -> MakingList:
        """Jobs, newest first, those after the id `after`."""
        found: list[Making] = []
        while len(found) <= limit and (rows := await service.store.makings.page(owner, 100, after)):
            found += [row for row in rows if row.kind == kind]
            after = rows[-1].id
        return MakingList(data=[making_object(row) for row in found[:limit]], has_more=len(found) > limit)

    @made.get("/{job_id}", operation_id=f"get_{kind}_job")
    async def get_job(job_id: str, service: Serving, owner: Owner) -> MakingObject:
        """A job as it is now."""
        return making_object(await owned(service, job_id, owner, kind))

    @made.get("/{job_id}/events", operation_id=f"follow_{kind}_job", response_class=EventStream, responses={**_STREAM})
    async def job_events(job_id: str, service: Serving, owner: Owner) -> EventStream:
        """The job as it is now and whenever it has changed: events `progress`, then one `ended`."""
        await owned(service, job_id, owner, kind)
        return EventStream(_frames(service, job_id, owner, kind))

    @made.delete("/{job_id}", operation_id=f"stop_{kind}_job", response_model=MakingObject | MakingForgotten)
    async def stop_job(
        job_id: str,
        service: Serving,
        owner: Owner,
        forget: Annotated[bool, Query(description="Delete its row, too; model and checkpoints stay.")] = False,  # noqa: FBT002 - a query
    ) -> Response:
        """End a job and every process of it. Checkpoints stay: asked for again, it goes on from the last one."""
        row = await owned(service, job_id, owner, kind)
        row = await service.makings.cancel(job_id) or row
        if forget:
            await service.store.makings.delete(job_id)
            return JSONResponse(MakingForgotten(id=job_id).model_dump())
        return JSONResponse(making_object(row).model_dump(mode="json"))

    return made


async def begin(service: Service, order: Order, owner: str) -> MakingObject:
    """Take an order in; for the POST of each kind."""
    service.refuse_when_draining()
    return making_object(await service.makings.begin(order, owner))


async def known_model(service: Service, name: str, param: str) -> str:
    """`name`, if it is that of a model in the catalogue or made here, and on this disk. Never a path.

    Raises:
        ApiError: 404, there is none, or it was not pulled.
    """
    if "/" in name or "\\" in name or name.startswith(("~", ".")):
        raise ApiError(404, f"{param}: name a model, not a path", param=param, code="not_found")
    try:
        path = await asyncio.to_thread(locate, name, service.settings.home)
    except InputError as fault:
        raise ApiError(404, f"{param}: {fault}", param=param, code="not_found") from fault
    if not path.is_relative_to(service.settings.home):
        raise ApiError(404, f"{param}: there is no model called {name!r}", param=param, code="not_found")
    return name


async def brought(service: Service, owner: str, files: Brought) -> list[tuple[str, File]]:
    """The caller's files for an `Order`, by option.

    Raises:
        ApiError: 404, there is no such file.
    """
    return [(option, await owned_file(service, id_, owner, param)) for option, id_, param in files]


def making_object(row: Making) -> MakingObject:
    told = row.model_dump(include=set(MakingObject.model_fields))
    times = {"created_at": row.created, "begun_at": row.begun, "ended_at": row.ended}
    return MakingObject(**told, **{name: None if at is None else int(at) for name, at in times.items()})


async def owned(service: Service, job_id: str, owner: str, kind: str) -> Making:
    row = await service.store.makings.load(job_id)
    if row is None or row.owner != owner or row.kind != kind:
        raise ApiError(404, "there is no such job", param="job_id", code="not_found")
    return row


async def _frames(service: Service, job_id: str, owner: str, kind: str) -> AsyncGenerator[bytes, None]:
    before, silent = None, time.monotonic()
    while True:
        now = making_object(await owned(service, job_id, owner, kind))
        ended = now.status in _OVER
        if now != before or ended:
            yield frame(now.model_dump(mode="json"), event="ended" if ended else "progress")
            before, silent = now, time.monotonic()
        elif time.monotonic() - silent >= service.settings.serve.keep_alive_seconds:
            yield PING
            silent = time.monotonic()
        if ended:
            return
        await asyncio.sleep(_LOOK)
