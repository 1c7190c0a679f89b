"""`/v1/runs`: eot's own surface, on which nothing of a run is hidden."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from api.http.errors import ApiError, ErrorEnvelope
from api.http.run_types import RunList, RunObject, RunRequest, RunSummary
from api.http.service import Owner, Serving
from api.http.sse import PING, EventStream, frame, unless_gone
from api.native import end_number, past_events, run_object
from api.runs import Run
from api.service import Service
from api.store.rows import Run as Row

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses={404: {"model": ErrorEnvelope}})
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
_LONGEST_WAIT = 60.0
_STILL = PING + frame({"type": "ping"}, event="ping")


class Forgotten(BaseModel):
    id: str
    object: str = "run.deleted"
    deleted: bool = True


@router.post("", status_code=202, response_model=RunObject, responses={**_STREAM, 429: {"model": ErrorEnvelope}})
async def begin_run(body: RunRequest, service: Serving, owner: Owner) -> Response:
    """Begin a run. It goes on whether anybody listens or not, until it ends or is deleted.

    Answers at once with the run, or with `stream` as its events do.
    """
    run = await service.native.begin(body, owner=owner)
    where = {"location": f"/v1/runs/{run.id}"}
    if body.stream:
        return _live(service, run, 0, where)
    row = await _row(service, run.id, owner)
    return JSONResponse(run_object(row).model_dump(mode="json"), status_code=202, headers=where)


async def complete_run(
    service: Service,
    body: RunRequest,
    *,
    owner: str = "",
    run_id: str | None = None,
    job: bool = False,
    calls: int | None = None,
) -> RunObject:
    """The whole run, for jobs.

    Raises:
        ApiError, EotError: it cannot begin, or came to no verdict.
    """
    run = await service.native.begin(body, owner=owner, run_id=run_id, job=job, calls=calls)
    try:
        await run.wait()
    finally:
        run.cancel()
    await service.native.kept(run.id)
    return run_object(await _row(service, run.id, owner))


@router.get("")
async def list_runs(
    service: Serving,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=200)] = None,
    q: Annotated[str | None, Query(max_length=200, description="Words of the question.")] = None,
) -> RunList:
    """Runs, newest first, those after the id `after`; with `q` those whose question has these words."""
    store = service.store.runs
    rows = await (store.search(owner, q, limit + 1, after) if q else store.page(owner, limit + 1, after))
    data = [RunSummary.model_validate(row.model_dump(include=set(RunSummary.model_fields))) for row in rows[:limit]]
    return RunList(data=data, has_more=len(rows) > limit)


@router.get("/{run_id}")
async def get_run(
    run_id: str,
    request: Request,
    service: Serving,
    owner: Owner,
    wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT, description="Seconds to wait for its end.")] = 0,
) -> RunObject:
    """The run as it is now, or when it has ended if that is within `wait` seconds."""
    row = await _row(service, run_id, owner)
    if row.status == "running" and wait:
        await unless_gone(request, service.native.ended(run_id, wait))
        row = await _row(service, run_id, owner)
    return run_object(row)


@router.get(
    "/{run_id}/events", response_class=EventStream, responses={**_STREAM, 204: {"description": "All was told."}}
)
async def run_events(
    run_id: str,
    service: Serving,
    owner: Owner,
    last_event_id: Annotated[str | None, Header(max_length=20, pattern=r"^[0-9]+$")] = None,
) -> Response:
    """The run's events from the first one, or from the one after `Last-Event-ID`, until it has ended.

    The pieces of a turn are told while it lasts; who comes later, or asks another process than the one that has the
    run, is told the turn as a whole. A run that was begun again is told again, under higher numbers. The last
    event is `ended`; 204 says that there will be nothing more, which ends a browser's EventSource.
    """
    after = int(last_event_id or 0)
    row = await _row(service, run_id, owner)
    if run := service.native.live(run_id):
        return _live(service, run, after)
    if row.status == "running":
        return EventStream(_frames_from_elsewhere(service, row, after))
    past, end = list(past_events(row)), end_number(row)
    if after == end:
        return Response(status_code=204)
    told = [frame(event, event=event["type"], number=number) for number, event in past if number > after or after > end]
    return EventStream(_whole([*told, _end(row)]))


@router.delete("/{run_id}", response_model=RunObject | Forgotten)
async def stop_run(
    run_id: str,
    service: Serving,
    owner: Owner,
    forget: Annotated[bool, Query(description="Delete what is kept of it, too.")] = False,  # noqa: FBT002 - a query
) -> Response:
    """Stop a run and keep the partial: what was said by then is voted on, if a quorum has spoken."""
    row = await _row(service, run_id, owner)
    if row.status == "running":
        await service.native.stop(run_id)
        row = await _row(service, run_id, owner)
    if forget:
        await service.store.runs.delete(run_id)
        await service.store.feedback.delete(run_id)
        return JSONResponse(Forgotten(id=run_id).model_dump())
    return JSONResponse(run_object(row).model_dump(mode="json"))


async def _row(service: Service, run_id: str, owner: str) -> Row:
    if row := await service.native.load(run_id, owner):
        return row
    raise ApiError(404, "there is no such run", param="run_id", code="not_found")


def _live(service: Service, run: Run, after: int, headers: Mapping[str, str] | None = None) -> EventStream:
    patience = service.settings.serve.keep_alive_seconds
    return EventStream(_live_frames(service, run, after), headers, patience=patience, still=lambda: _STILL)


async def _live_frames(service: Service, run: Run, after: int) -> AsyncGenerator[bytes, None]:
    async for number, event in run.follow(after):
        yield frame(event.model_dump_json(), event=event.type, number=number)
    await service.native.kept(run.id)
    if row := await service.native.load(run.id, run.owner):
        yield _end(row)


async def _frames_from_elsewhere(service: Service, row: Row, after: int) -> AsyncGenerator[bytes, None]:
    async for item in service.native.follow(row.id, after, service.settings.serve.keep_alive_seconds):
        if item is None:
            yield PING + frame({"type": "ping"}, event="ping")
        else:
            number, event = item
            yield frame(event, event=event["type"], number=number)
    if ended := await service.native.load(row.id, row.owner):
        yield _end(ended)


async def _whole(frames: list[bytes]) -> AsyncGenerator[bytes, None]:
    for each in frames:
        yield each


def _end(row: Row) -> bytes:
    told = {"type": "ended", "run_id": row.id, "status": row.status, "error": row.error}
    return frame(told, event="ended", number=end_number(row))
