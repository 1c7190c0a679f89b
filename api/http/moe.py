"""`/v1/moe`: mixtures of experts: which there are, which expert takes which token, and jobs that make new ones."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from api.http import makings
from api.http.errors import ApiError, ErrorEnvelope
from api.http.makings import MakingObject
from api.http.moe_types import (
    Build,
    ExplainRequest,
    Explanation,
    LayerLoad,
    MixtureDetails,
    MixtureList,
    MixtureObject,
    MoeRequest,
    SystemObject,
    Train,
)
from api.http.service import Owner, Serving
from api.making import Order
from api.mixtures import Known, mixture, mixtures
from api.service import Service
from eot.errors import UnknownNameError
from local_models import locate
from local_models.grafting.build import read_config
from local_models.moe.family import family_for
from local_models.moe.recipe import recipe, refuse_untaught

KIND = "moe"
builds = makings.router("/v1/moe/builds", KIND)
known = APIRouter(prefix="/v1/moe", tags=["models"], responses={404: {"model": ErrorEnvelope}})


@builds.post("", status_code=202, responses={400: {"model": ErrorEnvelope}, 409: {"model": ErrorEnvelope}})
async def begin_build(body: MoeRequest, service: Serving, owner: Owner) -> MakingObject:
    """Take a job in that builds or trains a mixture; it runs in a process of its own, after those before it."""
    for param, name in body.models_named():
        await makings.known_model(service, name, param)
    if isinstance(body, Build | Train):
        await asyncio.to_thread(_refuse_unfit, body, service)
    order = Order(
        kind=KIND,
        action=body.action,
        words=("models", "moe", body.action, *body.words()),
        request=body.model_dump(mode="json", exclude_none=True),
        files=await makings.brought(service, owner, body.files()),
        model=body.model_name,
    )
    return await makings.begin(service, order, owner)


@known.get("")
async def list_mixtures(service: Serving) -> MixtureList:
    """The mixtures of the settings, and those that were made here."""
    found = await asyncio.to_thread(mixtures, service.settings)
    return MixtureList(data=[MixtureObject(**_facts(one, service)) for one in found])


@known.get("/{name}")
async def get_mixture(name: str, service: Serving) -> MixtureDetails:
    """One of them, with the report of its training."""
    found = await _known(name, service)
    report = await asyncio.to_thread(found.report)
    systems = [
        SystemObject(
            system=line.system,
            losses=line.losses,
            mean=line.mean,
            to_base=[line.to_base.mean, line.to_base.low, line.to_base.high],
            own=line.own,
        )
        for line in report
    ]
    return MixtureDetails(**_facts(found, service), report=systems)


@known.post("/{name}/explain")
async def explain_text(name: str, body: ExplainRequest, service: Serving) -> Explanation:
    """Which expert took which token of a text, how the load was spread, and how sure the routers were."""
    found = await _known(name, service)
    told = await service.house.explained(found.model, body.text)
    count = len(told.by_expert)
    names = list(found.card.experts) if found.card else [str(at) for at in range(count)]
    return Explanation(
        model=name,
        experts=names,
        tokens=list(told.tokens),
        taken=told.taken,
        by_expert=list(told.by_expert),
        load=[
            LayerLoad(shares=list(one.shares), entropy=one.entropy, max_violation=one.max_violation)
            for one in told.load
        ],
        layers_experts=told.experts,
        layers_weights=told.weights,
    )


router = APIRouter()
router.include_router(builds)  # first: else "builds" would be taken for a mixture's name
router.include_router(known)


def _refuse_unfit(body: Build | Train, service: Service) -> None:
    """Raise an InputError if what is asked for ends in no mixture, as far as options and a base's configuration tell.

    Raises:
        WeightsError: the base's configuration cannot be read.
    """
    if isinstance(body, Train):
        recipe(len(body.corpora), active=body.active)
        refuse_untaught(body.train, body.active)
    if (folder := locate(body.base, service.settings.home)).is_dir():  # of a GGUF it shows when it is unpacked
        shared = isinstance(body, Build) and (body.shared != "none" or body.shared_pieces > 0)
        family_for(read_config(folder), shared=shared)


async def _known(name: str, service: Service) -> Known:
    try:
        return await asyncio.to_thread(mixture, name, service.settings)
    except UnknownNameError as fault:
        raise ApiError(404, str(fault), param="name", code="not_found") from fault


def _facts(one: Known, service: Service) -> dict[str, object]:
    """What may be told of it: never where it lies."""
    told: dict[str, object] = {"id": one.name, "agents": one.agents(service.settings), "fault": one.fault}
    if card := one.card:
        told |= {
            "method": card.method,
            "base": card.base.name,
            "experts": list(card.experts),
            "active": card.active,
            "shared": card.shared,
            "gate": card.gate,
            "trained": [str(each["said"]) for each in card.trained],
            "parameters": card.parameters,
            "active_parameters": card.active_parameters,
        }
    return told
