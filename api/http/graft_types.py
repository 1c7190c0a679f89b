"""What can be asked of `/v1/grafts`, and the words of the command line that it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
FileId = Annotated[str, Field(max_length=100)]
FileIds = Annotated[list[FileId], Field(min_length=1, max_length=100)]
Brought = list[tuple[str, str, str]]
"""(option of the command, file id, parameter); an option that ends in = is joined with its file."""


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    def models_named(self) -> Sequence[tuple[str, str]]:
        """(parameter, name) of each model that must be on this disk."""
        return [("model", self.model)] if hasattr(self, "model") else []

    def words(self) -> tuple[str, ...]:
        raise NotImplementedError

    def files(self) -> Brought:
        return []


class Plan(_Asked):
    """What each graft would weigh, and lose on a text before any training."""

    action: Literal["plan"]
    model: Name
    text_file_id: FileId | None = None
    m: Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(max_length=100)] = []

    def words(self) -> tuple[str, ...]:
        return (self.model, *_options({"--m": self.m}))

    def files(self) -> Brought:
        return [("--text", self.text_file_id, "text_file_id")] if self.text_file_id else []


class Build(_Asked):
    """A graft of one model, or of two of the same shape; its layers are said in one way."""

    action: Literal["build"]
    models: Annotated[list[Name], Field(min_length=1, max_length=2)]
    model_name: Name
    m: Annotated[int, Field(ge=0, le=1000)] | None = None
    map: Annotated[str, Field(max_length=2000, pattern=r"^[ab0-9:, -]+$")] | None = None
    expand: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _in_one_way(self) -> Self:
        if sum(way is not None for way in (self.m, self.map, self.expand)) != 1:
            raise ValueError("say which layers in one way: m, map or expand")
        return self

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("models", name) for name in self.models]

    def words(self) -> tuple[str, ...]:
        said = {"--name": self.model_name, "--m": self.m, "--map": self.map, "--expand": self.expand}
        return (*self.models, *_options(said))


class _Trained(_Asked):
    """What all three kinds of training have in common; see `eot models graft heal --help`."""

    model: Name
    model_name: Name
    control: Name | None = None
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    minutes: Annotated[float, Field(gt=0, le=100_000)] | None = None
    lora: Annotated[int, Field(ge=0, le=1024)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    batch: Annotated[int, Field(ge=1, le=4096)] | None = None
    gather: Annotated[int, Field(ge=1, le=4096)] | None = None
    length: Annotated[int, Field(ge=2, le=131_072)] | None = None
    warmup: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    every: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    held: Annotated[int, Field(ge=1, le=10_000)] | None = None
    restart: bool = False

    @model_validator(mode="after")
    def _ends(self) -> Self:
        ways = [name for name in ("steps", "tokens", "minutes") if name in type(self).model_fields]
        if all(getattr(self, way) is None for way in ways):
            raise ValueError(f"say how long to train: {', '.join(ways[:-1])} or {ways[-1]}")
        if self.steps and getattr(self, "tokens", None):
            raise ValueError("say how long in one way: steps or tokens")
        return self

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("model", self.model), *([("control", self.control)] if self.control else [])]

    def words(self) -> tuple[str, ...]:
        named = {"action", "model", "model_name", *(param for *_, param in self.files())}
        said = {f"--{key.replace('_', '-')}": value for key, value in self if key not in named}
        return (self.model, *_options({"--name": self.model_name, **said}))


class Heal(_Trained):
    """Continued pre-training on a brought text: plain, or JSON lines with `text`."""

    action: Literal["heal"]
    tokens: Annotated[int, Field(ge=1, le=10**12)] | None = None
    corpus_file_ids: FileIds

    def files(self) -> Brought:
        return [("--corpus", id_, "corpus_file_ids") for id_ in self.corpus_file_ids]


class Teach(_Trained):
    """Instruction tuning on brought JSON lines: prompt and completion, or messages."""

    action: Literal["teach"]
    examples_file_ids: FileIds

    def files(self) -> Brought:
        return [("--examples", id_, "examples_file_ids") for id_ in self.examples_file_ids]


class Align(_Trained):
    """Direct preference optimisation on brought JSON lines: prompt, chosen and rejected."""

    action: Literal["align"]
    control: None = None
    pairs_file_ids: FileIds
    beta: Annotated[float, Field(ge=0.001, le=10)] | None = None

    def files(self) -> Brought:
        return [("--pairs", id_, "pairs_file_ids") for id_ in self.pairs_file_ids]


class Export(_Asked):
    """A model as one quantised GGUF, for llama.cpp; `like` is the GGUF of the catalogue that it was made from."""

    action: Literal["export"]
    model: Name
    like: Name
    model_name: Name
    kind: Literal["q8_0", "q5_0", "q4_0", "f16"] = "q8_0"

    def models_named(self) -> Sequence[tuple[str, str]]:
        return [("model", self.model), ("like", self.like)]

    def words(self) -> tuple[str, ...]:
        return (self.model, *_options({"--like": self.like, "--kind": self.kind, "--name": self.model_name}))


GraftRequest = Annotated[Plan | Build | Heal | Teach | Align | Export, Field(discriminator="action")]


def _options(said: dict[str, Any]) -> Iterator[str]:
    """Options as `--name=value`, so that no value is ever read as an option."""
    for option, value in said.items():
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                yield option
            elif each is not None and each is not False:
                yield f"{option}={each}"
