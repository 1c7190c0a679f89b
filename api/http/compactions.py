"""`/v1/responses/compact`: a long conversation made short, to go on with."""

from __future__ import annotations

import time
import uuid

from fastapi import APIRouter, Request

from api.chatting import summing_up
from api.compaction import write_compaction
from api.http.errors import ErrorEnvelope
from api.http.response_requests import Talk
from api.http.response_types import CompactionItem, CompactionObject, usage_of
from api.http.responses import said_before
from api.http.service import Owner, Serving
from api.http.sse import unless_gone
from api.http.telling import final
from api.outcome import outcome

router = APIRouter(
    prefix="/v1/responses",
    tags=["responses"],
    responses={404: {"model": ErrorEnvelope}, 429: {"model": ErrorEnvelope}},
)


@router.post("/compact")
async def compact(body: Talk, request: Request, service: Serving, owner: Owner) -> CompactionObject:
    """Sum a conversation up, by one agent. `output` is what to send as the input in its place, before what is new."""
    talk = body.talk(await said_before(service, body.previous_response_id, owner))
    run = await service.begin(summing_up(body.model, talk, service.settings), owner=owner)
    try:
        result = await unless_gone(request, run.wait())
    finally:
        run.cancel()
    name = uuid.uuid4().hex
    text, _ = final(result, ())
    return CompactionObject(
        id=f"resp_{name}",
        created_at=int(time.time()),
        output=[CompactionItem(id=f"cmp_{name}", encrypted_content=write_compaction(text))],
        usage=usage_of(result),
        eot=outcome(result),
    )
