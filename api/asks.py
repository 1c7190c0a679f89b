"""What is to be run, whichever protocol it was asked in: a question, who sits, and what is particular to this run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from eot.errors import InputError, QuestionError, UnknownNameError
from eot.settings import FUSION, CouncilSettings, Settings
from eot.types import Message, Question
from scoring import schema_check
from topologies import TOPOLOGIES, table

COUNCIL, AGENT = "eot/", "agent/"
"""How a model name begins: a council, or an agent alone. A fused set's begins with FUSION."""


@dataclass(frozen=True)
class Ask:
    """One run to be made.

    `verbatim`, where it is not empty, is what the one agent is asked word for word, with `options` (tools) beside it;
    `sampling` has keys of its settings that this run changes. `max_tokens` lowers what every agent may write a turn.
    """

    question: Question
    council: CouncilSettings
    seed: int = 0
    verbatim: tuple[Message, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None


def make_question(**fields: Any) -> Question:
    """A question, its faults said in one line.

    Raises:
        QuestionError: it is empty, too long or not valid text.
    """
    try:
        return Question(**fields)
    except ValidationError as fault:
        said = "; ".join(error["msg"].removeprefix("Value error, ") for error in fault.errors())
        raise QuestionError(said) from fault


def json_question(schema: dict[str, Any]) -> dict[str, Any]:
    """A question's fields where the answer is to fit this schema.

    Raises:
        QuestionError: it is none, or not one that is taken here.
    """
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        raise QuestionError("the JSON schema is not valid JSON, or is nested too deeply") from None
    schema_check(text)
    return {"kind": "json", "json_schema": text}


def council_of(model: str, settings: Settings) -> CouncilSettings:
    """Who sits under this model name.

    `eot/NAME` is a council, or the default council in that topology; `agent/NAME` an agent alone, and `fusion/NAME`
    a fused set alone.

    Raises:
        UnknownNameError: there is no such model.
    """
    name = model.removeprefix(COUNCIL)
    if model.startswith(COUNCIL) and name in settings.councils:
        return settings.councils[name]
    if model.startswith(COUNCIL) and name in topologies(settings):
        return settings.councils["default"].model_copy(update={"topology": name})
    agent = model.removeprefix(AGENT)
    if model.startswith(AGENT) and agent in settings.agents:
        return alone(agent)
    if model.startswith(FUSION) and model.removeprefix(FUSION) in settings.fusions:
        return alone(model)
    raise UnknownNameError("model", model, model_names(settings))


def alone(agent: str) -> CouncilSettings:
    """One agent without an exchange. Its only ballot wins, so nothing has to be embedded."""
    return CouncilSettings(agents=(agent,), topology="memory", rounds=0, stop=(), vote="majority")


def topologies(settings: Settings) -> list[str]:
    """The topologies by name: ours, and those of the operator's own tables."""
    return [*TOPOLOGIES, *(name for name in settings.topologies if name not in TOPOLOGIES)]


def model_names(settings: Settings) -> list[str]:
    """Every model that can be asked: councils, the default council in each topology that seats it, agents, sets."""
    seats = settings.councils["default"].agents
    shapes = [name for name in topologies(settings) if name not in settings.councils and _seats(name, seats, settings)]
    councils = [COUNCIL + name for name in (*settings.councils, *shapes)]
    return [*councils, *(AGENT + name for name in settings.agents), *(FUSION + name for name in settings.fusions)]


def _seats(topology: str, seats: tuple[str, ...], settings: Settings) -> bool:
    try:
        table(topology, seats, settings.topologies)
    except InputError:
        return False
    return True
