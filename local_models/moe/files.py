"""Whether a model's files are those of a mixture of experts, told without loading it."""

from __future__ import annotations

import json
from pathlib import Path

from eot.errors import InputError, WeightsError
from local_models.gguf_header import read_header

_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""What transformers' classes call the number of experts."""


def refuse_dense(path: Path) -> None:
    """Raise an InputError if these weights, a folder or a GGUF file, have no experts."""
    if not (_folder_has_experts(path) if path.is_dir() else _gguf_has_experts(path)):
        raise InputError(f"{path.name} is no mixture of experts: its files name none")


def _folder_has_experts(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return any(config.get(name) for name in _COUNTS)
    except (OSError, ValueError, AttributeError):
        return False


def _gguf_has_experts(file: Path) -> bool:
    try:
        return any(name.endswith(".expert_count") for name in read_header(file))
    except WeightsError:
        return False
