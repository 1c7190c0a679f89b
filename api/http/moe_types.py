"""What `/v1/moe` answers, and what can be asked of its jobs: the words of the command line that a request becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from api.http.graft_types import Brought, FileId, FileIds, Name
from api.http.types import Exact
from eot.settings import MOE_JOBS

Domain = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Weight = Annotated[float, Field(ge=0, le=100)]
Active = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class SystemObject(BaseModel):
    """A line of a training's report: losses in nats a token; `to_base` is a mean with its 95 % interval."""

    system: str
    losses: Mapping[str, float]
    mean: float
    to_base: Annotated[list[float], Field(min_length=3, max_length=3)]
    own: float | None


class MixtureObject(BaseModel):
    """A mixture of experts. What is not known of one that was made elsewhere is null; `fault`: it is of no use."""

    id: str
    object: Literal["mixture"] = "mixture"
    method: str | None = None
    base: str | None = None
    experts: list[str] | None = None
    active: int | None = None
    shared: str | None = None
    gate: str | None = None
    trained: list[str] = []
    parameters: int | None = None
    active_parameters: int | None = None
    agents: list[str]
    fault: str = ""


class MixtureDetails(MixtureObject):
    report: list[SystemObject] = []


class MixtureList(BaseModel):
    object: Literal["list"] = "list"
    data: list[MixtureObject]


class ExplainRequest(Exact):
    text: Annotated[str, Field(min_length=1, max_length=20_000)]


class LayerLoad(BaseModel):
    """Each expert's share of the assignments, the routers' entropy in nats a token, and DeepSeek's MaxVio."""

    shares: list[float]
    entropy: float
    max_violation: float


class Explanation(BaseModel):
    """`taken`[token][expert]: the weight that each expert had in each token, the mean over layers.

    `layers_experts` and `layers_weights` [layer][token][k] are the same, layer by layer, best first.
    """

    object: Literal["moe.explanation"] = "moe.explanation"
    model: str
    experts: list[str]
    tokens: list[str]
    taken: list[list[float]]
    by_expert: list[float]
    load: list[LayerLoad]
    layers_experts: list[list[list[int]]]
    layers_weights: list[list[list[float]]]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model_name: Name

    @field_validator("model_name")
    @classmethod
    def _reachable(cls, name: str) -> str:
        if name == MOE_JOBS:
            raise ValueError(f"{MOE_JOBS!r} is no name for a mixture: /v1/moe/{MOE_JOBS} has the jobs")
        return name

    def models_named(self) -> Sequence[tuple[str, str]]:
        """(parameter, name) of each model that must be on this disk."""
        raise NotImplementedError

    def words(self) -> tuple[str, ...]:
        raise NotImplementedError

    def files(self) -> Brought:
        return []

    def _options(self, said: Mapping[str, Any]) -> tuple[str, ...]:
        """As `--name=value`, so that no value is ever read as an option."""
        return tuple(f"{option}={value}" for option, value in {"--name": self.model_name, **said}.items())


class Build(_Asked):
    """Experts of fine-tuned `models`, or of the base alone; `texts` say what each model is for, by its name.

    Where no `gate` is named it is `ridge` with texts and `random` without.
    """

    action: Literal["build"]
    base: Name
    active: Active = 2
    seed: Seed = 0
    models: Annotated[list[Name], Field(max_length=64)] = []
    copies: Annotated[int, Field(ge=1, le=1024)] = 1
    split: Annotated[int, Field(ge=1, le=1024)] = 1
    shared_pieces: Annotated[int, Field(ge=0, le=1024)] = 0
    shared: Literal["none", "base", "mean"] = "none"
    noise: Weight = 0.0
    gate: Literal["random", "hidden", "ridge", "zero"] | None = None
    texts: Annotated[dict[Name, FileId], Field(max_length=64)] = {}

    @model_validator(mode="after")
    def _of_its_models(self) -> Build:
        if unknown := [name for name in self.texts if name not in self.models]:
            raise ValueError(f"texts: {unknown[0]} is none of the models")
        return self

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("base", self.base), *(("models", name) for name in self.models)]

    def words(self) -> tuple[str, ...]:
        said = {
            "--active": self.active,
            "--seed": self.seed,
            "--copies": self.copies,
            "--split": self.split,
            "--shared-pieces": self.shared_pieces,
            "--shared": self.shared,
            "--noise": self.noise,
            **({"--gate": self.gate} if self.gate else {}),
        }
        return (self.base, *self.models, *self._options(said))

    def files(self) -> Brought:
        return [(f"--text={name}=", id_, "texts") for name, id_ in self.texts.items()]


class Train(_Asked):
    """A branch of the base for each domain of `corpora` (a file each), a gate, and the mixture's own training."""

    action: Literal["train"]
    base: Name
    corpora: Annotated[dict[Domain, FileId], Field(min_length=2, max_length=64)]
    active: Active = 2
    seed: Seed = 0
    tokens: Annotated[int, Field(ge=1, le=10**12)] = 20_480
    rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    router_tokens: Annotated[int, Field(ge=1, le=10**12)] = 10_240
    router_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    balance: Weight = 0.0
    z: Weight = 1e-3
    train: Annotated[
        list[Literal["router", "experts-frozen", "experts", "esft"]], Field(min_length=1, max_length=4)
    ] = ["router"]
    window: Annotated[int, Field(ge=8, le=4096)] = 256
    held: Annotated[int, Field(ge=8, le=10**7)] = 8_192

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("base", self.base)]

    def words(self) -> tuple[str, ...]:
        said = {
            "--active": self.active,
            "--seed": self.seed,
            "--tokens": self.tokens,
            "--rate": self.rate,
            "--router-tokens": self.router_tokens,
            "--router-rate": self.router_rate,
            "--balance": self.balance,
            "--z": self.z,
            "--train": ",".join(self.train),
            "--window": self.window,
            "--held": self.held,
        }
        return (self.base, *self._options(said))

    def files(self) -> Brought:
        return [(f"--corpus={name}=", id_, "corpora") for name, id_ in self.corpora.items()]


class Tune(_Asked):
    """A mixture trained further, on a file of each domain."""

    action: Literal["tune"]
    mixture: Name
    corpora: Annotated[dict[Domain, FileId], Field(min_length=1, max_length=64)]
    train: Literal["router", "experts-frozen", "experts", "esft"] = "experts-frozen"
    tokens: Annotated[int, Field(ge=1, le=10**12)] = 10_240
    rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    balance: Weight = 0.0
    z: Weight = 1e-3
    window: Annotated[int, Field(ge=8, le=4096)] = 256
    held: Annotated[int, Field(ge=8, le=10**7)] = 8_192
    seed: Seed = 0

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("mixture", self.mixture)]

    def words(self) -> tuple[str, ...]:
        named = {"action", "model_name", "mixture", "corpora"}
        return (self.mixture, *self._options({f"--{key}": value for key, value in self if key not in named}))

    def files(self) -> Brought:
        return [(f"--corpus={name}=", id_, "corpora") for name, id_ in self.corpora.items()]


class Add(_Asked):
    """A mixture with one more expert, a fine-tuned copy of its base; texts say what it and the others are for."""

    action: Literal["add"]
    mixture: Name
    model: Name
    text_file_id: FileId
    other_file_ids: FileIds

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("mixture", self.mixture), ("model", self.model)]

    def words(self) -> tuple[str, ...]:
        return (self.mixture, self.model, *self._options({}))

    def files(self) -> Brought:
        others = [("--other", id_, "other_file_ids") for id_ in self.other_file_ids]
        return [("--text", self.text_file_id, "text_file_id"), *others]


class Drop(_Asked):
    """A mixture without one of its experts, which is named or numbered from 0."""

    action: Literal["drop"]
    mixture: Name
    expert: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("mixture", self.mixture)]

    def words(self) -> tuple[str, ...]:
        return (self.mixture, self.expert, *self._options({}))


MoeRequest = Annotated[Build | Train | Tune | Add | Drop, Field(discriminator="action")]
