"""The settings: `eot.toml`, and `EOT_...` variables that win over it (`EOT_COUNCILS__DEFAULT__ROUNDS=1`).

A wrong setting is refused with its key, what was read and what would be right. Which agents exist when there is no
file is not decided here: that is a choice of real things, and those are made in `api/`.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic.functional_validators import AfterValidator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from eot.errors import SettingsError
from eot.fusion import FusionSettings

Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[\w.:@+-]{1,64}$")]
"""What an agent, a council or a topology may be called: it stands in prompts, tables and file names."""
StopRule = Literal["unanimous", "majority", "stable"]
Progress = Literal["reasoning_content", "reasoning", "think", "off"]
VoteMethod = Literal["auto", "majority", "confidence", "emb_a_s", "word_a_f", "char_a_f", "sum"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_OURS = frozenset({"local", "fusion", "replay", "scripted"})
"""How models begin that are not LiteLLM's."""
GATE = "gate:"
"""How a council says that a trained gate picks who sits."""
FUSION = "fusion/"
"""How the name of a fused set begins."""


class AgentSettings(_Table):
    """One `[agents.NAME]` table. `model` is any LiteLLM model string, or one of `eot`'s own.

    Those are `local/...`, `fusion/NAME`, `moe/NAME`, `replay/FILE` and `scripted`.
    """

    model: str = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Unset, a local model takes 0.7 and 0.95, and a hosted one is not told: some refuse to be told both."""
    max_tokens: Count = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """Added to the run's own seed, so that two agents with one model do not write the same text."""
    instructions: str = ""
    """A sentence or two put before every prompt of this agent."""
    base_url: str | None = None
    """Where an OpenAI-compatible server of yours listens. Only this file can name an address."""
    api_key: SecretStr | None = None
    api_key_env: str | None = None
    deadline: float = Field(default=300, gt=0)
    """Seconds for one turn, retries included; then the agent is silent for that round."""
    retries: int = Field(default=3, ge=0, le=10)
    weight: float = Field(default=1.0, gt=0)
    """What this agent's ballot counts in the vote."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """What the provider allows, read and written together; all processes on one store keep to it together."""
    input_usd_per_million: float | None = Field(default=None, ge=0)
    output_usd_per_million: float | None = Field(default=None, ge=0)
    """Prices that win over what LiteLLM knows. Neither known: the cost is shown as unknown, never 0."""
    script: tuple[str, ...] = ()
    """What a `scripted` agent says, one text a round; the last one is repeated."""

    @property
    def is_hosted(self) -> bool:
        """Whether it is asked over the wire, in OpenAI's or LiteLLM's words; only such a one can be told of tools."""
        return self.model.partition("/")[0] not in _OURS


class BudgetSettings(_Table):
    """Caps of one run. None: no cap."""

    calls: Count | None = None
    tokens: Count | None = None
    usd: float | None = Field(default=None, gt=0)
    seconds: float | None = Field(default=None, gt=0)


class CouncilSettings(_Table):
    """One `[councils.NAME]` table: who sits, in which topology, when they stop, how they vote."""

    agents: tuple[str, ...] = Field(min_length=1)
    """Strongest first: it sits at the hub, or the root. Or `gate:NAME`: a trained gate picks them for each question."""
    pick: Count = 3
    """How many agents a gate picks at most."""
    wanted: float | None = Field(default=None, gt=0, lt=1)
    """With a gate: as few agents as make it this likely that one of them is right."""
    shares: Mapping[Name, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """With a gate: how its choices are to be spread over its agents in the long run, in any unit. Unset: freely."""
    capacity: float | None = Field(default=None, ge=1)
    """With a gate: an agent with this many times its share (unset: even) of the last 100 choices is passed over."""
    topology: str = "report"
    rounds: int = Field(default=2, ge=0, le=20)
    """Exchange rounds at most; round 0, each agent alone, is not counted."""
    stop: tuple[StopRule, ...] = ("unanimous", "majority")
    gate: float = Field(default=0.5, ge=0.5, le=1)
    """The rule `majority` fires when an answer has more than this share of the council's weight behind it."""
    lazy: bool = True
    """In round 0, ask in order of weight and stop when that share is passed: the others could change nothing."""
    keep_first: bool = True
    """An agent that changed its answer gives half of its ballot to its first one."""
    vote: VoteMethod = "auto"
    wsdm: bool = False
    """Similarities to the digit as the WSDM Cup 2024 winner computed them."""
    mode: Literal["default", "eot-compat"] = "default"
    quorum: Count | None = None
    """Agents that must have spoken for a verdict. Unset: half of the seats, rounded up."""
    budget: BudgetSettings = BudgetSettings()

    @field_validator("agents", mode="before")
    @classmethod
    def _or_a_gate(cls, agents: Any) -> Any:
        return (agents,) if isinstance(agents, str) and agents.startswith(GATE) else agents

    @property
    def gate_name(self) -> str:
        """The gate that picks who sits, or "" where the seats are named."""
        only = self.agents[0] if len(self.agents) == 1 else ""
        return only.removeprefix(GATE) if only.startswith(GATE) else ""


def _read_whole(council: CouncilSettings) -> CouncilSettings:
    """Refuse what only a gate reads. Not in the table itself: what a run changes is made anew with every key given."""
    ignored = sorted(council.model_fields_set & {"pick", "wanted", "shares", "capacity"})
    if ignored and not council.gate_name:
        raise ValueError(f'{", ".join(ignored)}: only a gate reads that; write agents = "{GATE}NAME", or leave it out')
    return council


class EmbedSettings(_Table):
    """The model of the embedding vote: a catalogue name or a folder with a sentence-transformers model."""

    model: str = "all-minilm-l6-v2"

    @property
    def name(self) -> str:
        """The same on every machine: the catalogue name, or the folder's own."""
        return Path(self.model).absolute().name


MOE_JOBS = "builds"
"""What a mixture cannot be called: `/v1/moe/builds` has the jobs that make them."""


class MoeSettings(_Table):
    """One `[moes.NAME]` table: a mixture of experts that `eot models moe` made, by its name here or its folder."""

    model: str = Field(min_length=1)


class ServeSettings(_Table):
    """The `[serve]` table: how `eot serve` listens, answers and goes."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    """0: whichever is free; the line that `eot serve` prints names it."""
    max_runs: Count = 64
    """Runs in flight; whoever asks for one more is told 429 and when to come back."""
    keep_alive_seconds: float = Field(default=10, gt=0, le=60)
    """A stream is never silent for longer: clients and proxies hang up on silence."""
    progress: Progress = "reasoning_content"
    """How a chat stream tells what the council does before its answer is there."""
    drain_seconds: float = Field(default=30, ge=0)
    """What runs in flight are given to end after SIGTERM; then they are stopped and their partial is kept."""
    store: str | None = None
    """Where runs, files, batches and keys are kept: redis://HOST:PORT/0 for many machines. Unset: SQLite in `home`."""
    jobs: int = Field(default=16, ge=0, le=64)
    """Requests of batches in work at once in this process; 0 leaves them to `eot worker`s on the same Redis."""
    keep_calls_days: float = Field(default=30, gt=0)
    """How long paid replies are kept, so that what died asks again only for the rest. No batch lasts longer than 30."""
    task_agent: str | None = None
    """Who answers the title, tag and follow-up prompts of chat clients. Unset: the default council's last seat."""
    tools: Literal["agent", "ignore"] = "agent"
    """A request with tools goes to the one agent that can be told of them, or to the council as if there were none."""
    fusion_models: Count = 4
    """Local models that sets described in requests may have loaded at once, beside those that agents run on."""
    max_body_mb: Count = 20
    """Mebibytes of a request's body; one that is larger is refused before it is read."""
    max_file_mb: Count = 512
    """The same where a file is brought."""
    log: Literal["auto", "json", "text"] = "auto"
    """One JSON object a line, or plain lines; auto: plain on a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otel: bool = False
    """Send OpenTelemetry traces where the OTEL_ variables say (extra `otel`). Never what was asked or answered."""


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="EOT_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".cache" / "eot")
    """Where weights, kept calls and runs lie."""
    threads: Count | None = None
    """Processor threads of each local model's engine. Unset: the physical cores that are idle when one is loaded."""
    engine: Literal["auto", "llama.cpp", "transformers"] = "auto"
    """What runs local models: llama.cpp on a CPU, transformers (extra `torch`) on a GPU and for safetensors folders."""
    parallel: Count = 4
    """Requests that one local model serves at once."""
    context: Count = 4096
    """Tokens of context for each of those requests."""
    agents: Mapping[Name, AgentSettings] = Field(default_factory=dict)
    councils: Mapping[Name, Annotated[CouncilSettings, AfterValidator(_read_whole)]] = Field(default_factory=dict)
    fusions: Mapping[Name, FusionSettings] = Field(default_factory=dict)
    """Local models that decide each token together; `fusion/NAME` is then a model of agents."""
    moes: Mapping[Name, MoeSettings] = Field(default_factory=dict)
    """Mixtures of experts; `moe/NAME` is then a model of agents, and `/v1/moe/NAME/explain` says who took what."""
    topologies: Mapping[Name, Mapping[Name, tuple[str, ...]]] = Field(default_factory=dict)
    """Your own tables: `[topologies.NAME]` with `seat = ["seats", "it", "hears"]`."""
    embed: EmbedSettings = EmbedSettings()
    serve: ServeSettings = ServeSettings()

    def agent(self, name: str) -> AgentSettings | None:
        """The agent of this name. A fused set is one by its own, `fusion/NAME`."""
        if name.startswith(FUSION) and name.removeprefix(FUSION) in self.fusions:
            return AgentSettings(model=name)
        return self.agents.get(name)

    @field_validator("moes")
    @classmethod
    def _reachable(cls, moes: Mapping[str, MoeSettings]) -> Mapping[str, MoeSettings]:
        if MOE_JOBS in moes:
            raise ValueError(f"{MOE_JOBS!r} is no name for a mixture: /v1/moe/{MOE_JOBS} has the jobs")
        return moes

    @field_validator("home")
    @classmethod
    def _at_home(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; there is no third source."""
        del env_settings, dotenv_settings, file_secret_settings
        return _Environment(settings_cls, init_settings()), init_settings


class _Environment(EnvSettingsSource):
    """The EOT_ variables. Below a table's name pydantic-settings leaves text: what is written as JSON is read here.

    Variables know no case, names in the file do: a name that the file has is taken as the file writes it.
    """

    def __init__(self, settings_cls: type[BaseSettings], file: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._file = file

    def __call__(self) -> dict[str, Any]:
        return cast("dict[str, Any]", _read(super().__call__(), self._file, "EOT_"))


def _read(given: Any, file: Any, variable: str) -> Any:
    if isinstance(given, dict):
        written = {str(key).lower(): key for key in file} if isinstance(file, Mapping) else {}
        names = {key: written.get(str(key).lower(), key) for key in given}
        below = {key: file.get(names[key]) if isinstance(file, Mapping) else None for key in given}
        return {names[key]: _read(value, below[key], f"{variable}{key}__".upper()) for key, value in given.items()}
    if isinstance(given, str) and given.lstrip().startswith(("[", "{")):
        try:
            return json.loads(given)
        except json.JSONDecodeError as fault:
            raise SettingsError(
                f'{variable.removesuffix("__")} is not JSON ({fault}); write a list as ["a", "b"]'
            ) from fault
    return given


def load(path: Path | None = None) -> Settings:
    """Read `eot.toml` (or `path`, or nothing when there is no file) and the environment.

    Raises:
        SettingsError: the file is not TOML, or a key or a value is wrong; every fault is named.
    """
    name = str(path) if path else "eot.toml"
    try:
        text = (path or Path("eot.toml")).read_text(encoding="utf-8")
    except FileNotFoundError:
        if path:
            raise SettingsError(f"there is no file {name}") from None
        text = ""
    except (OSError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{name} cannot be read: {fault}") from fault
    try:
        return Settings(**tomllib.loads(text))
    except tomllib.TOMLDecodeError as fault:
        raise SettingsError(f"{name} is not valid TOML: {fault}") from fault
    except UnreadableVariable as fault:  # its message names the field in quotes
        field = str(fault).split('"')[1] if '"' in str(fault) else "..."
        raise SettingsError(f"EOT_{field.upper()} holds a table, so its value must be JSON: {{...}}") from fault
    except ValidationError as fault:
        lines = "\n".join(f"  {_explain(error)}" for error in fault.errors())
        raise SettingsError(f"{name} or an EOT_ variable is wrong:\n{lines}") from fault


def _explain(error: Any) -> str:
    """One fault as a sentence: the key, what was read, what would be right. Never shows a secret."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _keys_at(error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        return f"{path}: no such key; {meant}known: {', '.join(sorted(known))}"
    if error["type"] == "missing":
        return f"{path}: this key is required"
    right = _RIGHT.get(error["type"]) or error["msg"][0].lower() + error["msg"][1:]
    return f"{path}: read {_shown(error)}; {right}"


_RIGHT: Mapping[str, str] = {
    "tuple_type": 'write a list, such as ["a", "b"]',
    "model_type": "write a table: its keys and values",
    "mapping_type": "write a table: names and what they stand for",
    "string_pattern_mismatch": "write 1 to 64 letters, digits or . _ - + : @",
}


def _shown(error: Any) -> str:
    """What was read, unless it is or may hold a secret: then only what sort of thing it is."""
    given, where = error["input"], str(error["loc"][-1])
    if "key" in where and where != "[key]":
        return "a secret"
    if isinstance(given, Mapping | list) or error["type"] in ("model_type", "mapping_type"):
        return "a table" if isinstance(given, Mapping) else "a list" if isinstance(given, list) else "one value"
    return repr(given)[:80]


_TABLES: Mapping[str, type[BaseModel]] = {
    "agents": AgentSettings,
    "councils": CouncilSettings,
    "fusions": FusionSettings,
    "moes": MoeSettings,
    "budget": BudgetSettings,
    "embed": EmbedSettings,
    "serve": ServeSettings,
}


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    table: type[BaseModel] = Settings
    for part in location:
        table = _TABLES.get(str(part), table)
    return list(table.model_fields)
