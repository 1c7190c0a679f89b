"""A council: the agents in their seats, who hears whom, when they stop and how they vote. What one run is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eot.types import Agent
from topologies.tables import Table


@dataclass(frozen=True)
class Council:
    """Who sits together. Built by the composition root for one run, since a budget belongs to one run.

    `agents` and `hears` are in seat order, strongest first. `gate` is the share of the weight, in 0.5..1, that an
    answer must pass for the rule `majority`; with `lazy` no more agents are asked at first than it takes to pass it.
    With `keep_first` an agent that changed its mind gives half of its ballot to its first answer. `exhausted` names
    the cap of the budget that is reached. `embed` turns n texts into float32[n, d]; without it similarity votes run
    on words and characters. `salt` is a secret that makes the marks around quoted peers unforeseeable.
    """

    agents: Mapping[str, Agent]
    topology: str
    hears: Table
    rounds: int = 2
    stop: Sequence[str] = ("unanimous", "majority")
    gate: float = 0.5
    lazy: bool = True
    keep_first: bool = True
    vote: str = "auto"
    wsdm: bool = False
    mode: Literal["default", "eot-compat"] = "default"
    quorum: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)
    embed: Callable[[Sequence[str]], Any] | None = None
    exhausted: Callable[[], str] = str  # never: str() is ""
    salt: str = ""
