"""`/v1/grafts`: deeper models from the layers of one, planned, built, healed, taught and aligned as jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi.responses import FileResponse

from api.http import makings
from api.http.errors import ApiError, ErrorEnvelope
from api.http.graft_types import GraftRequest, Plan
from api.http.makings import MakingObject
from api.http.service import Owner, Serving
from api.making import Order
from api.service import Service
from api.store import Making

KIND, CURVE = "graft", "curve.png"
router = makings.router("/v1/grafts", KIND)


@router.post("", status_code=202, responses={400: {"model": ErrorEnvelope}, 409: {"model": ErrorEnvelope}})
async def begin_graft(body: GraftRequest, service: Serving, owner: Owner) -> MakingObject:
    """Take a job in: it starts when those before it have ended, in a process of its own."""
    return await makings.begin(service, await _order(service, body, owner), owner)


@router.get("/{job_id}/curve", response_class=FileResponse, responses={200: {"content": {"image/png": {}}}})
async def get_curve(job_id: str, service: Serving, owner: Owner) -> FileResponse:
    """Losses over tokens as a picture, of a training that has ended."""
    row = await makings.owned(service, job_id, owner, KIND)
    curve = service.settings.home / "built" / row.model / CURVE if row.model else None
    if curve is None or not await asyncio.to_thread(_drawn_by, row, curve):
        raise ApiError(404, "this job has drawn no curve: only a training that has ended does", code="not_found")
    return FileResponse(curve, media_type="image/png")


def _drawn_by(row: Making, curve: Path) -> bool:
    """Whether it is this job's: the model may have been removed since, and made anew by another."""
    return row.status == "completed" and curve.is_file() and curve.stat().st_mtime <= (row.ended or 0.0)


async def _order(service: Service, body: GraftRequest, owner: str) -> Order:
    for param, name in body.models_named():
        await makings.known_model(service, name, param)
    return Order(
        kind=KIND,
        action=body.action,
        words=("models", "graft", body.action, *body.words()),
        request=body.model_dump(mode="json", exclude_none=True),
        files=await makings.brought(service, owner, body.files()),
        model=body.model_name if not isinstance(body, Plan) else "",
    )
