"""A model as it is trained: in float32, which small learning rates need, whatever its weights are stored in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from eot.errors import WeightsError

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'].capitalize() + ':\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
"""SOLAR's, for a base model that has none of its own and is taught to chat."""


def load_for_training(folder: Path) -> tuple[Any, Any, torch.dtype]:
    """Return (model, tokenizer, the dtype of its stored weights).

    Raises:
        WeightsError: transformers cannot read it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  (seconds)

    quiet()
    sound: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **sound)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **sound)
    except (OSError, ValueError, KeyError, RuntimeError) as fault:
        raise WeightsError(f"transformers cannot load {folder}: {fault}") from fault
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer, _stored(folder)


def _stored(folder: Path) -> torch.dtype:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    return found if isinstance(found, torch.dtype) else torch.float32


def quiet() -> None:
    """No progress bars and no chatter of the libraries: what is to be told is told by us."""
    import datasets  # noqa: PLC0415  (seconds)
    from transformers.utils import logging  # noqa: PLC0415

    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
