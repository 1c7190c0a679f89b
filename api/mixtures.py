"""The mixtures of experts that the service knows: those of the settings' tables, and those that were made here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.mixture_report import Line, lines
from eot.errors import EotError, UnknownNameError
from eot.settings import Settings
from local_models import all_built, locate
from local_models.moe.card import LINEAGE, Lineage, read_card
from local_models.moe.files import refuse_dense


@dataclass(frozen=True)
class Known:
    """One: the `model` that it is (a name here, or a path of the operator's), its folder and its card, if it has one.

    `fault` says why it cannot be read, or is no mixture; then there is no folder.
    """

    name: str
    model: str
    folder: Path | None
    card: Lineage | None
    fault: str = ""

    def agents(self, settings: Settings) -> list[str]:
        """Who runs on it."""
        models = {f"local/{self.model}", *(f"moe/{name}" for name, table in settings.moes.items()
                                           if table.model == self.model)}  # fmt: skip
        return [name for name, agent in settings.agents.items() if agent.model in models]

    def report(self) -> list[Line]:
        """What its training's report says, a line a system; nothing where there is none."""
        try:
            told: Any = json.loads(((self.folder or Path()) / "report.json").read_text(encoding="utf-8"))
            return lines(told)
        except (OSError, ValueError, KeyError, TypeError):
            return []


def mixtures(settings: Settings) -> list[Known]:
    """Every one, those of tables first."""
    return list(_all(settings))


def mixture(name: str, settings: Settings) -> Known:
    """The mixture of this name.

    Raises:
        UnknownNameError: there is none.
    """
    found = {one.name: one for one in reversed(mixtures(settings))}  # a table wins over what was made under its name
    if name not in found:
        raise UnknownNameError("mixture of experts", name, found)
    return found[name]


def _all(settings: Settings) -> Iterator[Known]:
    for name, table in settings.moes.items():
        try:
            folder = locate(table.model, settings.home)
            refuse_dense(folder)
        except EotError as fault:
            yield Known(name, table.model, None, None, str(fault))
        else:
            yield Known(name, table.model, folder, _card(folder))
    for name, folder in all_built(settings.home).items():
        if (folder / LINEAGE).is_file():
            yield Known(name, name, folder, _card(folder))


def _card(folder: Path) -> Lineage | None:
    try:
        return read_card(folder)
    except EotError:
        return None  # a mixture that somebody else made
