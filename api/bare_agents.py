"""Agents as their settings name them, before anything is wrapped around one: part of the composition root."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from agents import HostedAgent, LocalAgent, Prices, ReplayAgent, ScriptedAgent
from eot.errors import InputError, SettingsError
from eot.settings import AgentSettings, Settings
from eot.types import Agent
from local_models import Engines, Sampling, built, find, own_path


async def refuse_unpriced(agents: Iterable[Agent]) -> None:
    """A cap on dollars cannot be kept where a price is unknown: better no run than one without its cap."""
    for agent in agents:
        if isinstance(agent, HostedAgent) and not await agent.is_priced():
            raise SettingsError(
                f"nobody knows what {agent.name} costs, so the cap on dollars cannot be kept: "
                f"set input_usd_per_million and output_usd_per_million of agents.{agent.name}, or cap calls or tokens"
            )


def bare_agent(name: str, settings: AgentSettings, engines: Engines) -> Agent:
    """The agent that `model` names by its prefix; what has no prefix of ours is LiteLLM's."""
    prefix, _, rest = settings.model.partition("/")
    match prefix:
        case "local":
            _refuse_unfit(name, rest, engines.home)
            return LocalAgent(name=name, engine=partial(engines.get, rest), sampling=Sampling(**_sampling(settings)))
        case "fusion":
            for member in engines.fusion(rest).members:
                _refuse_unfit(name, member, engines.home)
            return LocalAgent(name=name, engine=partial(engines.fused, rest), sampling=Sampling(**_sampling(settings)))
        case "moe":
            _refuse_unfit(name, engines.mixture_model(rest), engines.home)
            return LocalAgent(
                name=name, engine=partial(engines.mixture, rest), sampling=Sampling(**_sampling(settings))
            )
        case "replay":
            return ReplayAgent(name, Path(rest))
        case "scripted":
            return ScriptedAgent(name, settings.script)
        case _:
            return _hosted(name, settings)


def _refuse_unfit(name: str, model: str, home: Path) -> None:
    """A local model that nobody knows, or that cannot chat, is refused before anyone is asked."""
    if built(model, home) is None and own_path(model) is None and not find(model).chat:
        raise InputError(f"agents.{name}: {model} is a base model without a chat template: it cannot sit in a council")


def prepare(settings: Settings) -> None:
    """Load what hosted agents are asked with, which takes seconds: before anybody waits for an answer."""
    for name, agent in settings.agents.items():
        if agent.is_hosted:
            _hosted(name, agent).prepare()


def _sampling(settings: AgentSettings) -> dict[str, Any]:
    """How to sample, as far as the operator said it."""
    return settings.model_dump(include={"temperature", "top_p", "max_tokens", "stop"}, exclude_none=True)


def _hosted(name: str, settings: AgentSettings) -> HostedAgent:
    prices = (settings.input_usd_per_million, settings.output_usd_per_million)
    known = None not in prices
    return HostedAgent(
        name=name,
        model=settings.model,
        **_sampling(settings),
        api_key=settings.api_key or _key_in(settings.api_key_env),
        key_variable=settings.api_key_env or "",
        base_url=settings.base_url,
        prices=Prices(input_usd_per_million=prices[0], output_usd_per_million=prices[1]) if known else None,
    )


def secrets_of(settings: Settings) -> list[str]:
    """Every secret that the settings hold or name: what must turn up nowhere."""
    found = [agent.api_key or _key_in(agent.api_key_env) for agent in settings.agents.values()]
    passwords = [urlsplit(settings.serve.store or "").password]
    return [secret.get_secret_value() for secret in found if secret] + [word for word in passwords if word]


def _key_in(variable: str | None) -> SecretStr | None:
    return SecretStr(os.environ[variable]) if variable and os.environ.get(variable) else None


def fingerprint(agent: AgentSettings, settings: Settings) -> str:
    """What makes two agents the same to the memo: everything that shapes the text, and nothing else."""
    shaping = {"model", "temperature", "top_p", "max_tokens", "stop", "base_url", "script"}
    prefix, _, rest = agent.model.partition("/")
    named = {"fusion": settings.fusions, "moe": settings.moes}.get(prefix, {}).get(rest)
    text = agent.model_dump_json(include=shaping) + (named.model_dump_json() if named else "")
    return hashlib.sha256(text.encode()).hexdigest()
