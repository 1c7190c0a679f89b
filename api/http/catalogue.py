"""What there is to choose from: topologies, agents, councils."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.asks import topologies
from api.http.service import Serving
from eot.errors import InputError
from eot.settings import AgentSettings, CouncilSettings
from topologies import FEWEST_SEATS, TOPOLOGIES, messages_a_round, table

router = APIRouter(prefix="/v1", tags=["catalogue"])

_OURS = ("local", "replay", "scripted", "fusion", "moe")


class TopologyObject(BaseModel):
    """`hears` and `messages` (read in one round) are those of the default council, or null where it cannot sit so."""

    id: str
    object: Literal["topology"] = "topology"
    about: str
    own: bool
    fewest_seats: int
    hears: Mapping[str, tuple[str, ...]] | None
    messages: int | None


class AgentObject(BaseModel):
    """An agent. Where it is reached, and with which key, nobody is told."""

    id: str
    object: Literal["agent"] = "agent"
    model: str
    where: Literal["here", "hosted"]
    weight: float
    max_tokens: int
    deadline: float
    input_usd_per_million: float | None = None
    output_usd_per_million: float | None = None


class CouncilObject(BaseModel):
    id: str
    object: Literal["council"] = "council"
    council: CouncilSettings


class TopologyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[TopologyObject]


class AgentList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AgentObject]


class CouncilList(BaseModel):
    object: Literal["list"] = "list"
    data: list[CouncilObject]


@router.get("/topologies")
async def list_topologies(service: Serving) -> TopologyList:
    """Who hears whom, in each topology."""
    settings = service.settings
    seats = settings.councils["default"].agents
    return TopologyList(data=[_topology(name, seats, settings.topologies) for name in topologies(settings)])


@router.get("/agents")
async def list_agents(
    service: Serving,
    prices: Annotated[bool, Query(description="Say what they cost, too: the first time it takes seconds.")] = False,  # noqa: FBT002 - a query
) -> AgentList:
    """The agents. A price that was not asked for, or that nobody knows, is null."""
    agents = [_agent(name, agent) for name, agent in service.settings.agents.items()]
    known = await service.house.prices() if prices else {}
    return AgentList(
        data=[agent.model_copy(update=price.model_dump() if (price := known.get(agent.id)) else {}) for agent in agents]
    )


@router.get("/councils")
async def list_councils(service: Serving) -> CouncilList:
    councils = service.settings.councils.items()
    return CouncilList(data=[CouncilObject(id=name, council=council) for name, council in councils])


def _topology(name: str, seats: tuple[str, ...], own: Mapping[str, Mapping[str, tuple[str, ...]]]) -> TopologyObject:
    try:
        hears = table(name, seats, own)
    except InputError:
        hears = None
    return TopologyObject(
        id=name,
        about="a table of eot.toml" if name in own else (TOPOLOGIES[name].__doc__ or "").partition(".")[0],
        own=name in own,
        fewest_seats=len(own[name]) if name in own else FEWEST_SEATS[name],
        hears=hears,
        messages=messages_a_round(hears) if hears else None,
    )


def _agent(name: str, agent: AgentSettings) -> AgentObject:
    here = agent.model.partition("/")[0] in _OURS
    return AgentObject(
        id=name,
        model=agent.model,
        where="here" if here else "hosted",
        weight=agent.weight,
        max_tokens=agent.max_tokens,
        deadline=agent.deadline,
    )
