"""From a conversation to a run: whom it is put to, and as what."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from api.asks import AGENT, Ask, alone, council_of, make_question
from api.compaction import prompt_for
from api.conversation import Conversation
from api.gated import candidates
from api.http.errors import ApiError
from eot.errors import QuestionError, UnknownNameError
from eot.settings import CouncilSettings, Settings


def ask_for(
    model: str,
    talk: Conversation,
    settings: Settings,
    *,
    form: Mapping[str, Any],
    sampling: Mapping[str, Any],
    seed: int | None,
    options: Mapping[str, Any] | None = None,
) -> Ask:
    """The run that is meant. `form` has a question's fields for an answer in JSON; a `sampling` of None is not set.

    An agent alone is asked the messages as they are, a council the last of them with the others as its background.
    With `options` (tools that may be called) one agent is asked too: what a tool gives must go back to who called it,
    and a council that called it five times would have done five times what it does.

    Raises:
        ApiError: there is no such model, or none of its agents can be told of tools.
        QuestionError: the messages make no question.
    """
    council = _council(model, settings)
    if talk.is_task and not model.startswith(AGENT):
        council = alone(settings.serve.task_agent or candidates(settings.councils["default"], settings)[-1])
    seed = secrets.randbelow(2**31) if seed is None else seed
    told = {name: value for name, value in sampling.items() if value is not None}
    if options and (caller := _tool_caller(model, council, settings, options)):
        return Ask(talk.question(kind="open"), alone(caller), seed, talk.messages, told, options)
    if len(council.agents) > 1 or council.gate_name:
        return Ask(talk.question(**form), council, seed, max_tokens=told.get("max_tokens"))
    if form:
        return Ask(talk.question(**form), council, seed, (), told)
    return Ask(talk.question(kind="open"), council, seed, talk.plain, told)


def _tool_caller(model: str, council: CouncilSettings, settings: Settings, options: Mapping[str, Any]) -> str:
    """The council's strongest agent of those that can be told of tools; equals as they were written.

    "" where nobody can and nothing needs to be called: a model that may call a tool may answer without, too, and some
    clients (Open WebUI) send tools of their own with every question.
    """
    may_answer = options.get("tool_choice") in (None, "auto")
    if settings.serve.tools == "ignore" and may_answer:
        return ""
    able = [name for name in candidates(council, settings) if name in settings.agents]
    able = [name for name in able if settings.agents[name].is_hosted]
    if not able and may_answer:
        return ""
    if not able:
        raise ApiError(
            400,
            f"no agent of {model} can be told of tools, as hosted ones can: name another model, or no tool_choice",
            param="tool_choice",
            code="tools_unsupported",
        )
    return _strongest(able, settings)


def summing_up(model: str, talk: Conversation, settings: Settings) -> Ask:
    """The run that makes a conversation short: its model's strongest agent alone is asked.

    Raises:
        ApiError: there is no such model.
        QuestionError: nothing was said, or more than can be read.
    """
    if not talk.messages:
        raise QuestionError("nothing was said in this conversation: there is nothing to sum up")
    names = [name for name in candidates(_council(model, settings), settings) if name in settings.agents]
    question = make_question(text=talk.transcript, kind="open")
    return Ask(question, alone(_strongest(names, settings)), 0, prompt_for(question.text))


def _strongest(names: list[str], settings: Settings) -> str:
    return max(names, key=lambda name: settings.agents[name].weight)


def _council(model: str, settings: Settings) -> CouncilSettings:
    try:
        return council_of(model, settings)
    except UnknownNameError as fault:
        raise ApiError(404, str(fault), param="model", code="model_not_found") from None
