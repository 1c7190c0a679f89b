"""Who sits in the council when `eot.toml` names nobody: hosted agents for the keys in the environment, else local ones.

The local council was chosen by measurement (`docs/results/council.md` has the figures and the command).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from eot.settings import AgentSettings, CouncilSettings, Settings

SEATS = 3

LOCAL: Mapping[str, AgentSettings] = {
    "coder": AgentSettings(model="local/qwen2.5-coder-1.5b"),
    "second": AgentSettings(model="local/qwen2.5-coder-1.5b"),
    "small": AgentSettings(model="local/qwen2.5-coder-0.5b"),
}

# Variable that holds a provider's key -> two of its models, the one to ask first in front.
HOSTED: Mapping[str, tuple[str, str]] = {
    "ANTHROPIC_API_KEY": ("anthropic/claude-haiku-4-5", "anthropic/claude-sonnet-4-6"),
    "OPENAI_API_KEY": ("openai/gpt-5.4-mini", "openai/gpt-5.1"),
    "GEMINI_API_KEY": ("gemini/gemini-3.5-flash", "gemini/gemini-2.5-flash"),
    "DEEPSEEK_API_KEY": ("deepseek/deepseek-chat", "deepseek/deepseek-reasoner"),
    "MISTRAL_API_KEY": ("mistral/mistral-medium-latest", "mistral/mistral-small-latest"),
    "XAI_API_KEY": ("xai/grok-4.3", "xai/grok-4.5"),
    "DASHSCOPE_API_KEY": ("dashscope/qwen-plus", "dashscope/qwen-flash"),
    "GROQ_API_KEY": ("groq/openai/gpt-oss-120b", "groq/openai/gpt-oss-20b"),
}


def with_defaults(settings: Settings, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings, with agents and a council filled in where the operator named none."""
    agents = settings.agents or _hosted(environment) or LOCAL
    councils = dict(settings.councils)
    councils.setdefault("default", CouncilSettings(agents=tuple(agents)))
    return settings.model_copy(update={"agents": agents, "councils": councils})


def _hosted(environment: Mapping[str, str]) -> dict[str, AgentSettings]:
    """Up to three agents, of different providers first: different models err differently."""
    pairs = [models for key, models in HOSTED.items() if environment.get(key)]
    chosen = [first for first, _ in pairs] + [second for _, second in pairs]
    return {model.rpartition("/")[2]: AgentSettings(model=model, max_tokens=2048) for model in chosen[:SEATS]}
