"""`/v1/models`: a council is a model, and so is an agent alone."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.asks import COUNCIL, council_of, model_names
from api.http.errors import ErrorEnvelope
from api.http.service import Serving
from eot.settings import FUSION

router = APIRouter(prefix="/v1", tags=["models"])


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
async def list_models(service: Serving) -> ModelList:
    """Councils (`eot/NAME`, `eot/debate`: the default one in that topology), agents (`agent/NAME`), fused sets."""
    return ModelList(data=[_model(name) for name in model_names(service.settings)])


@router.get("/models/{name:path}", responses={404: {"model": ErrorEnvelope}})
async def get_model(name: str, service: Serving) -> Model:
    council_of(name, service.settings)
    return _model(name)


def _model(name: str) -> Model:
    if name.startswith(FUSION):
        return Model(id=name, owned_by="fusion")
    return Model(id=name, owned_by="council" if name.startswith(COUNCIL) else "agent")
