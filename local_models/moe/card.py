"""The card of a mixture: where it comes from, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eot.errors import InputError
from eot.text import counted
from local_models.digests import digest_of, weights_digests
from local_models.grafting.build import CARD

LINEAGE = "moe.json"


@dataclass(frozen=True)
class Part:
    """A model that something was made of, by the SHA-256 of its configuration and of its weights' files."""

    name: str
    config_sha256: str
    weights_sha256: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, name: str) -> Part:
        return cls(name, digest_of(folder / "config.json"), weights_digests(folder))


@dataclass(frozen=True)
class Lineage:
    """What a mixture is. `trained` has an entry for each training since it was built; `gate` says how that was made."""

    method: str
    model_type: str
    base: Part
    sources: tuple[Part, ...]
    experts: tuple[str, ...]
    active: int
    shared: str
    gate: str
    parameters: int
    active_parameters: int
    trained: tuple[dict[str, Any], ...] = ()

    def trained_by(self, how: dict[str, Any]) -> Lineage:
        return replace(self, trained=(*self.trained, how))


def write_card(lineage: Lineage, folder: Path) -> None:
    """Write moe.json and README.md."""
    (folder / LINEAGE).write_text(json.dumps(asdict(lineage), indent=2), encoding="utf-8")
    experts = ", ".join(lineage.experts)
    trained = "; ".join(str(one["said"]) for one in lineage.trained) or "not trained since it was built"
    (folder / CARD).write_text(
        f"# A mixture of {counted(len(lineage.experts), 'expert')} of {lineage.base.name}\n\n"
        f"Experts: {experts}; {lineage.active} of them for each token. Shared expert: {lineage.shared}. "
        f"Gate: {lineage.gate}; {trained}.\n\n"
        f"{lineage.parameters:,} parameters, {lineage.active_parameters:,} of them for a token. Class "
        f"{lineage.model_type} of transformers. Made by eot: {lineage.method}. Its licence is that of its sources.\n",
        encoding="utf-8",
    )


def read_card(folder: Path) -> Lineage:
    """The card of a mixture that was built here.

    Raises:
        InputError: there is none.
    """
    try:
        told = json.loads((folder / LINEAGE).read_text(encoding="utf-8"))
        parts = [Part(one["name"], one["config_sha256"], tuple(one["weights_sha256"])) for one in
                 (told.pop("base"), *told.pop("sources"))]  # fmt: skip
        told |= {name: tuple(told[name]) for name in ("experts", "trained")}
        return Lineage(base=parts[0], sources=tuple(parts[1:]), **told)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise InputError(f"{folder} is no mixture that was built here: it has no readable {LINEAGE}") from fault
