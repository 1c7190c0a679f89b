"""`/v1/grafts`: deeper models from the layers of one, planned, built, healed, taught and aligned as jobs."""

from __future__ import annotations

from api.http import makings
from api.http.errors import ErrorEnvelope
from api.http.graft_types import GraftRequest, Plan
from api.http.makings import MakingObject
from api.http.service import Owner, Serving
from api.making import Order
from api.service import Service

KIND = "graft"
router = makings.router("/v1/grafts", KIND)


@router.post("", status_code=202, responses={400: {"model": ErrorEnvelope}, 409: {"model": ErrorEnvelope}})
async def begin_graft(body: GraftRequest, service: Serving, owner: Owner) -> MakingObject:
    """Take a job in: it starts when those before it have ended, in a process of its own."""
    return await makings.begin(service, await _order(service, body, owner), owner)


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
