"""What `eot config check` does: everything that can be known of the settings without asking a model."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from api.compose import House
from api.defaults import HOSTED, with_defaults
from api.gated import all_seated, balance_for, candidates
from api.mixtures import mixtures
from api.stocking import local_names
from eot.errors import EotError, SettingsError
from eot.settings import AgentSettings, Settings, load
from local_models import CATALOGUE, on_disk
from topologies import rounds_to_reach, table


def check_settings(config: Path | None, *, as_json: bool) -> None:
    """Print what was found; faults are errors, the rest are remarks.

    Raises:
        SettingsError: at least one council, mixture or topology cannot work.
    """
    settings = with_defaults(load(config))
    faults = asyncio.run(_faults(settings))
    remarks = [*_strays(os.environ), *_remarks(settings)]
    if as_json:
        found = {
            "agents": sorted(settings.agents),
            "councils": sorted(settings.councils),
            "faults": faults,
            "remarks": remarks,
        }
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _print(settings, remarks)
    if faults:
        raise SettingsError("; ".join(faults))


async def _faults(settings: Settings) -> list[str]:
    """Seat every council, and try every mixture and every table of the operator's own, used or not."""
    house, faults = House(settings), []
    for name, council in settings.councils.items():
        try:
            await house.council(all_seated(council, settings))
            if council.gate_name:
                balance_for(council, settings)
        except EotError as fault:
            faults.append(f"councils.{name}: {fault}")
    await house.close()
    faults += [f"moes.{one.name}: {one.fault}" for one in mixtures(settings) if one.fault]
    for name, rows in settings.topologies.items():
        try:
            table(name, list(rows), settings.topologies)
        except EotError as fault:
            faults.append(str(fault))
    return list(dict.fromkeys(faults))


def _remarks(settings: Settings) -> Iterator[str]:
    for name, agent in settings.agents.items():
        if remark := _remark(agent, settings):
            yield f"agents.{name}: {remark}"
    for name, council in settings.councils.items():
        try:
            needed = rounds_to_reach(table(council.topology, candidates(council, settings), settings.topologies))
        except EotError:
            continue
        if needed and council.rounds < needed and len(council.agents) > 1:
            reach = f"a message needs {needed} to reach everyone in {council.topology}"
            yield f"councils.{name}: {council.rounds} rounds, but {reach}"


def _remark(agent: AgentSettings, settings: Settings) -> str:
    prefix = agent.model.partition("/")[0]
    names = local_names(agent.model, settings)
    if absent := [name for name in names if name in CATALOGUE and not on_disk(name, settings.home)]:
        pull = f"eot models pull {' '.join(absent)}"
        return f"its weights are not on disk; they come with the first question, or now: {pull}"
    keys = [key for key, models in HOSTED.items() if models[0].startswith(f"{prefix}/")]
    if keys and not (agent.api_key or agent.api_key_env or os.environ.get(keys[0])):
        return f"{keys[0]} is not set, and the agent has no api_key_env"
    if agent.api_key_env and not os.environ.get(agent.api_key_env):
        return f"{agent.api_key_env} is not set"
    return ""


def _strays(environment: Mapping[str, str]) -> Iterator[str]:
    known = {*Settings.model_fields, "config"}
    for variable in environment:
        prefix, _, rest = variable.partition("EOT_")
        if not prefix and rest and rest.split("__")[0].lower() not in known:
            yield f"{variable} is no setting; known: {', '.join(f'EOT_{key.upper()}' for key in sorted(known))}"


def _print(settings: Settings, remarks: list[str]) -> None:
    console = Console()
    for name, agent in settings.agents.items():
        console.print(Text(f"agent   {name}: {agent.model}"))
    for name, council in settings.councils.items():
        stop = "/".join(council.stop) or "never"
        rules = f"{council.topology}, {council.rounds} rounds, stop {stop}, vote {council.vote}"
        console.print(Text(f"council {name}: {', '.join(council.agents)} · {rules}"))
    for remark in remarks:
        console.print(Text(f"note    {remark}", style="yellow"))
