"""What `eot models fuse` does: a set of local models is loaded and tried, and the table to write for it is shown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from eot.errors import InputError
from eot.fusion import FusionSettings
from eot.settings import load
from local_models import Engines

if TYPE_CHECKING:
    from local_models.fusion.trial import Trial


def try_fusion(
    members: Sequence[str], method: str, weights: str, prompt: str, tokens: int, config: Path | None, *, as_json: bool
) -> None:
    """Print what fusing these members by this method takes, or why it cannot be done.

    Raises:
        InputError: the set, the method or the weights cannot work.
        WeightsError: a member is not on this machine.
    """
    settings = _settings(members, method, weights)
    trial = asyncio.run(_tried(settings, prompt, tokens, config))
    if as_json:
        sys.stdout.write(json.dumps(asdict(trial)) + "\n")
    else:
        _print(trial, settings, Console())


async def _tried(settings: FusionSettings, prompt: str, tokens: int, config: Path | None) -> Trial:
    house = load(config)
    engines = Engines(house.home, threads=house.threads, parallel=1, context=house.context)
    try:
        engine = await engines.fuse(settings, "the set")
        from local_models.fusion.trial import tried  # noqa: PLC0415  (torch takes seconds)

        return await tried(engine, prompt, tokens)
    finally:
        await engines.close()


def _settings(members: Sequence[str], method: str, weights: str) -> FusionSettings:
    given: dict[str, Any] = {"members": tuple(members), "method": method}
    if len(members) < 2:
        raise InputError("a set has at least two members")
    try:
        if weights:
            given["weights"] = tuple(float(weight) for weight in weights.split(","))
        return FusionSettings(**given)
    except ValidationError as fault:
        raise InputError("; ".join(error["msg"].removeprefix("Value error, ") for error in fault.errors())) from fault
    except ValueError as fault:
        raise InputError(f"--weights {weights} is not a list of numbers; write 0.6,0.4") from fault


def _print(trial: Trial, settings: FusionSettings, console: Console) -> None:
    same = trial.difference is None
    console.print(
        "one vocabulary, byte for byte" if same else f"different vocabularies: {trial.difference}", markup=False
    )
    console.print(f"{trial.common:,} tokens are written alike by all; method {trial.method}", markup=False)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("member", "parameters", "vocabulary", "weights", "cache a token", "ms a token"):
        table.add_column(heading)
    for cost in trial.members:
        table.add_row(
            cost.name,
            f"{cost.parameters / 1e6:,.0f} M",
            f"{cost.vocabulary:,}",
            f"{cost.weight_bytes / 1e6:,.0f} MB",
            f"{cost.cache_bytes_per_token / 1e3:,.0f} kB",
            f"{cost.ms_per_token:,.1f}",
        )
    weights = sum(cost.weight_bytes for cost in trial.members) / 1e6
    cache = sum(cost.cache_bytes_per_token for cost in trial.members) / 1e3
    table.add_row("together", "", "", f"{weights:,.0f} MB", f"{cache:,.0f} kB", f"{trial.ms_per_token:,.1f}")
    console.print(table)
    console.print(f"it went on: {trial.text!r}\n\n[fusions.NAME]", markup=False, highlight=False)
    for key, value in settings.model_dump(exclude_unset=True).items():
        console.print(f"{key} = {json.dumps(value)}", markup=False, highlight=False)
