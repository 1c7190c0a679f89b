"""`/v1/batches`: OpenAI's batches, and what they lack: progress as it happens, estimate and caps before the start."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.http.batch_types import (
    BatchList,
    BatchObject,
    BatchRequest,
    EstimateObject,
    EstimateRequest,
    batch_object,
    faults,
)
from api.http.errors import ApiError, ErrorEnvelope
from api.http.files import owned_file
from api.http.service import Owner, Serving
from api.http.sse import EventStream, frame
from api.jobs.endpoints import Endpoint
from api.jobs.scan import scan
from api.service import Service
from api.store import ENDED, Batch, Counts, File

router = APIRouter(prefix="/v1/batches", tags=["batches"])
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope}}
_LOOK = 0.5
"""Seconds between two looks at a batch whose progress is followed."""


@router.post("", responses={**_NOT_FOUND, 400: {"model": ErrorEnvelope}})
async def create_batch(body: BatchRequest, service: Serving, owner: Owner) -> BatchObject:
    """Begin a batch. Its file is validated before anything of it is asked."""
    service.refuse_when_draining()
    _endpoint(service, body.endpoint)
    file = await _input(service, body.input_file_id, owner)
    now, caps = time.time(), body.eot
    batch = Batch(
        id=f"batch_{uuid.uuid4().hex}",
        owner=owner,
        created=now,
        endpoint=body.endpoint,
        input_file_id=file.id,
        completion_window=body.completion_window,
        expires=now + body.seconds,
        metadata=body.metadata or {},
        max_usd=caps and caps.max_usd,
        max_calls=caps and caps.max_calls,
    )
    await service.store.batches.save_new(batch)
    await service.jobs.queue("validate", batch.id)
    return batch_object(batch, Counts())


@router.post("/estimate", responses={**_NOT_FOUND, 400: {"model": ErrorEnvelope}})
async def estimate_batch(body: EstimateRequest, service: Serving, owner: Owner) -> EstimateObject:
    """What a file would take as a batch, and what is wrong with it. Nothing is asked of any model."""
    endpoint, file = _endpoint(service, body.endpoint), await _input(service, body.input_file_id, owner)
    chunks = service.store.files.read(file.id)
    found = await scan(chunks, body.endpoint, endpoint.check, await endpoint.pricing())
    return EstimateObject(requests=found.items, errors=faults(found.faults), estimate=found.estimate)


@router.get("")
async def list_batches(
    service: Serving,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> BatchList:
    """Batches, newest first, those after the id `after`."""
    rows = await service.store.batches.page(owner, limit + 1, after)
    data = [await _told(service, row) for row in rows[:limit]]
    return BatchList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(rows) > limit,
    )


@router.get("/{batch_id}", responses=_NOT_FOUND)
async def get_batch(batch_id: str, service: Serving, owner: Owner) -> BatchObject:
    """A batch as it is now."""
    return await _told(service, await _owned(service, batch_id, owner))


@router.post("/{batch_id}/cancel", responses={**_NOT_FOUND, 409: {"model": ErrorEnvelope}})
async def cancel_batch(batch_id: str, service: Serving, owner: Owner) -> BatchObject:
    """Stop a batch. What was answered by then is kept; the rest gets an error line that says so."""
    batch = await _owned(service, batch_id, owner)
    changed = await service.store.batches.change(batch_id, _cancelled)
    if changed is None and batch.status not in ("cancelling", "cancelled"):
        now = await _owned(service, batch_id, owner)
        raise ApiError(409, f"the batch is {now.status}: there is nothing to cancel", code="not_cancellable")
    if changed:
        await service.jobs.queue("finish", batch_id)
    return await _told(service, changed or batch)


@router.get(
    "/{batch_id}/events",
    response_class=EventStream,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **_NOT_FOUND},
)
async def batch_events(batch_id: str, service: Serving, owner: Owner) -> EventStream:
    """The batch as it is now and whenever it has changed, until it has ended: events `progress`, then one `ended`."""
    await _owned(service, batch_id, owner)
    return EventStream(_frames(service, batch_id, owner), patience=service.settings.serve.keep_alive_seconds)


async def _frames(service: Service, batch_id: str, owner: str) -> AsyncGenerator[bytes, None]:
    before = None
    while True:
        now = await _told(service, await _owned(service, batch_id, owner))
        ended = now.status in ENDED
        if now != before or ended:
            yield frame(now.model_dump(mode="json"), event="ended" if ended else "progress")
            before = now
        if ended:
            return
        await asyncio.sleep(_LOOK)


def _cancelled(batch: Batch) -> Batch | None:
    return batch.entered("cancelling") if batch.status in ("validating", "in_progress") else None


def _endpoint(service: Service, path: str) -> Endpoint:
    known = service.jobs.work.endpoints
    if path not in known:
        raise ApiError(
            400, f"endpoint: a batch can be for {', '.join(known)}", param="endpoint", code="unknown_endpoint"
        )
    return known[path]


async def _input(service: Service, file_id: str, owner: str) -> File:
    file = await owned_file(service, file_id, owner, "input_file_id")
    if file.purpose != "batch":
        said = f'input_file_id: the file was brought for {file.purpose!r}; bring it with the purpose "batch"'
        raise ApiError(400, said, param="input_file_id", code="wrong_purpose")
    return file


async def _owned(service: Service, batch_id: str, owner: str) -> Batch:
    batch = await service.store.batches.load(batch_id)
    if batch is None or batch.owner != owner:
        raise ApiError(404, "there is no such batch", param="batch_id", code="not_found")
    return batch


async def _told(service: Service, batch: Batch) -> BatchObject:
    """With the counts of the items, which are there until the batch has ended and its row has them."""
    counts = await service.store.items.counts(batch.id)
    if not counts.total:
        batch = await service.store.batches.load(batch.id) or batch
    return batch_object(batch, batch.counts if batch.status in ENDED else counts)
