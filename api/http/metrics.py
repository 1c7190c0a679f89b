"""`/metrics`: what Prometheus reads."""

from __future__ import annotations

import time
from contextlib import suppress

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from api.http.service import Serving
from api.metrics import CONTENT_TYPE
from api.store import STORE_FAULTS, Store

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Serving) -> Response:
    """Counters and histograms in Prometheus' text format."""
    with suppress(*STORE_FAULTS):  # they keep what they said last
        service.observing.metrics.batches(*await _batches(service.store))
    return Response(service.observing.metrics.render(), media_type=CONTENT_TYPE)


async def _batches(store: Store) -> tuple[int, float]:
    """Items without an outcome, and seconds since the oldest batch that has not ended was made."""
    active = await store.batches.active()
    left = [(await store.items.counts(batch.id)).left for batch in active]
    return sum(left), max((time.time() - batch.created for batch in active), default=0.0)
