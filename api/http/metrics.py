"""`/metrics`: what Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from api.http.service import Serving
from api.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Serving) -> Response:
    """Counters and histograms in Prometheus' text format."""
    return Response(await service.observing.metrics.rendered(service.store), media_type=CONTENT_TYPE)
