"""Councils whose seats a trained gate fills, anew for each question."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path

import numpy as np

from agents.gating import READ_CHARACTERS, Balance, Gate, load
from agents.gating.choose import RATE
from eot.errors import EotError, InputError
from eot.settings import CouncilSettings, Settings
from eot.types import Question
from scoring import Embed


def gate_of(name: str, settings: Settings) -> Gate:
    """The trained gate of this name.

    Raises:
        InputError: there is none, its file is damaged, the name is none, or another model embedded its questions.
    """
    gate = _loaded(gate_path(settings, name), written(name, settings))
    if gate.embedder != settings.embed.name:
        raise InputError(
            f"the gate {name!r} was trained on vectors by {gate.embedder}, and embed.model is {settings.embed.name}: "
            "set it to that model, or train the gate again"
        )
    return gate


@lru_cache(maxsize=8)
def _loaded(path: Path, _written: int) -> Gate:
    return load(path)


def written(name: str, settings: Settings) -> int:
    """When the gate of this name was trained last, in nanoseconds of its file; 0 where there is none."""
    path = gate_path(settings, name)
    return path.stat().st_mtime_ns if path.exists() else 0


def gate_path(settings: Settings, name: str) -> Path:
    """Where the gate of this name lies.

    Raises:
        InputError: it cannot be a name.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"a gate's name has letters, digits, - and _; read {name!r}")
    return settings.home / "gates" / f"{name}.npz"


def candidates(seats: CouncilSettings, settings: Settings) -> tuple[str, ...]:
    """Who may come to sit: the named agents, or those that are configured and that the gate knows.

    Raises:
        InputError: the gate knows nobody who is configured, or cannot be read.
    """
    if not seats.gate_name:
        return seats.agents
    known = gate_of(seats.gate_name, settings).agents
    if found := tuple(name for name in known if name in settings.agents):
        return found
    raise InputError(f"the gate {seats.gate_name!r} knows {', '.join(known)}: none of them is an agent of the settings")


def all_seated(seats: CouncilSettings, settings: Settings) -> CouncilSettings:
    """The council with everyone who may come to sit.

    Raises:
        InputError: as `candidates`.
    """
    return seats.model_copy(update={"agents": candidates(seats, settings)})


async def seated(
    seats: CouncilSettings, question: Question, settings: Settings, embed: Embed, balance: Balance | None = None
) -> CouncilSettings:
    """The council with the agents that its gate picks for this question, the one most likely right first.

    Raises:
        InputError: as `candidates`.
    """
    who = candidates(seats, settings)
    vector = (await asyncio.to_thread(embed, [question.text[:READ_CHARACTERS]]))[0]
    gate = gate_of(seats.gate_name, settings)
    pick = gate.pick(np.asarray(vector, dtype=np.float64), who, most=seats.pick, wanted=seats.wanted, balance=balance)
    return seats.model_copy(update={"agents": pick.agents})


def balance_for(seats: CouncilSettings, settings: Settings) -> Balance | None:
    """What spreads the gate's choices as the council's settings want it; None where they want nothing.

    Raises:
        InputError: as `candidates`, or the shares leave out somebody who may be picked, or are all 0.
    """
    if not seats.shares and seats.capacity is None:
        return None
    who = candidates(seats, settings)
    shares = dict(seats.shares) or dict.fromkeys(who, 1.0)
    if set(shares) != set(who):
        other = min(set(shares) ^ set(who))
        raise InputError(f"shares: give one to each agent that the gate may pick, {', '.join(who)}; {other!r} differs")
    if not sum(shares.values()):
        raise InputError("shares: all are 0; somebody must be asked")
    total = sum(shares.values())
    rate = RATE if seats.shares else 0.0  # a capacity alone moves nobody who is below it
    return Balance([shares[name] / total for name in who], rate, seats.capacity)


def weights_needed(seats: CouncilSettings, settings: Settings) -> tuple[str, ...]:
    """Who may come to sit, or nobody where that cannot be told: what is wrong is said when the council is seated."""
    try:
        return candidates(seats, settings)
    except EotError:
        return ()
