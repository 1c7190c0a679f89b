"""From a conversation to a run: whom it is put to, and as what."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from api.asks import AGENT, Ask, alone, council_of
from api.conversation import Conversation
from api.gated import candidates
from api.http.errors import ApiError
from eot.errors import UnknownNameError
from eot.settings import CouncilSettings, Settings


def ask_for(
    model: str,
    talk: Conversation,
    settings: Settings,
    *,
    form: Mapping[str, Any],
    sampling: Mapping[str, Any],
    seed: int | None,
) -> Ask:
    """The run that is meant. `form` has a question's fields for an answer in JSON; a `sampling` of None is not set.

    An agent alone is asked the messages as they are, a council the last of them with the others as its background.

    Raises:
        ApiError: there is no such model.
        QuestionError: the messages make no question.
    """
    council = _council(model, settings)
    if talk.is_task and not model.startswith(AGENT):
        council = alone(settings.serve.task_agent or candidates(settings.councils["default"], settings)[-1])
    seed = secrets.randbelow(2**31) if seed is None else seed
    if len(council.agents) > 1 or council.gate_name:
        return Ask(talk.question(**form), council, seed)
    told = {name: value for name, value in sampling.items() if value is not None}
    if form:
        return Ask(talk.question(**form), council, seed, (), told)
    return Ask(talk.question(kind="open"), council, seed, talk.messages, told)


def _council(model: str, settings: Settings) -> CouncilSettings:
    try:
        return council_of(model, settings)
    except UnknownNameError as fault:
        raise ApiError(404, str(fault), param="model", code="model_not_found") from None
