"""What a council is compared with, each as plain as its paper, one file each.

A baseline is made from an entrant and gives systems named after what they depend on: an agent (`cot:coder`), or the
council whose members, calls or tokens it uses (`sc:default`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from eot.errors import UnknownNameError
from evaluation.baselines.council import council
from evaluation.baselines.mixture_of_agents import mixture_of_agents
from evaluation.baselines.round0 import round0
from evaluation.baselines.self_consistency import self_consistency, self_consistency_by_tokens
from evaluation.baselines.self_moa import self_moa
from evaluation.baselines.single import chain_of_thought, singles
from evaluation.systems import Entrant, System, Trial

BASELINES: Mapping[str, Callable[[Entrant, Trial], Sequence[System]]] = {
    "cot": chain_of_thought,
    "sc": self_consistency,
    "sc-tokens": self_consistency_by_tokens,
    "self-moa": self_moa,
    "moa": mixture_of_agents,
    "best-single": singles,
    "round0": round0,
}


def systems_of(entrants: Iterable[Entrant], baselines: Iterable[str], trial: Trial) -> list[System]:
    """Every system once, councils first, since budgets are fitted to them; round 0's vote always, since it is free.

    Raises:
        UnknownNameError: there is no such baseline.
    """
    entrants, wanted = list(entrants), ["round0", *(name for name in baselines if name != "round0")]
    for name in wanted:
        if name not in BASELINES:
            raise UnknownNameError("baseline", name, BASELINES)
    makers = [council, *(BASELINES[name] for name in wanted)]
    found = [system for make in makers for entrant in entrants for system in make(entrant, trial)]
    return list({system.name: system for system in reversed(found)}.values())[::-1]


__all__ = ["BASELINES", "systems_of"]
