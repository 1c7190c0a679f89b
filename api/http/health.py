"""Whether the process lives, and whether it takes new work."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.http.errors import ApiError, ErrorEnvelope
from api.http.service import Serving

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"
    runs: int = 0
    """Runs in flight."""


@router.get("/health/live")
async def live(service: Serving) -> Health:
    """The process answers."""
    return Health(runs=service.in_flight)


@router.get("/health/ready", responses={503: {"model": ErrorEnvelope}})
async def ready(service: Serving) -> Health:
    """The server takes new runs: it is not draining, and its store answers."""
    service.refuse_when_draining()
    if fault := await service.store_fault():
        raise ApiError(503, f"the store does not answer: {fault}", code="store_down", headers={"retry-after": "5"})
    return Health(runs=service.in_flight)
