"""A GGUF file or a safetensors folder as a torch model and its tokenizer, on the best device there is.

transformers unpacks a GGUF into full-size weights, which takes many seconds: the result is kept as safetensors under
`HOME/converted/DIGEST/DTYPE` and read from there the next time.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from eot.errors import WeightsError
from local_models.digests import digest_of
from local_models.once import TRANSFORMERS
from local_models.weights import converted, only_one

ROW_BYTES = 16
"""What torch's grouped products want a row of experts' weights to be a multiple of."""


def load_model(path: Path, home: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[Any, Any]:
    """Return (model, tokenizer). Runs no code that comes with a model, and reads no pickles.

    Raises:
        WeightsError: transformers cannot read it; its reason is named.
    """
    try:
        with TRANSFORMERS:
            model, tokenizer = _read(path, dtype) if path.is_dir() else _read_gguf(path, home, dtype)
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError, SafetensorError) as fault:
        raise WeightsError(f"transformers cannot load {path}: {fault}") from fault
    _read_by_any_kernel(model)
    return model.to(device()).eval(), tokenizer


def _read_by_any_kernel(model: Any) -> None:
    """Experts whose rows are not whole `ROW_BYTES` are computed one after another: grouped products refuse them."""
    rows = (weight for name, weight in model.named_parameters() if weight.dim() == 3 and ".experts." in name)
    if any(weight.shape[-1] * weight.element_size() % ROW_BYTES for weight in rows):
        model.set_experts_implementation("eager")


def device() -> torch.device:
    """A CUDA GPU, else Apple's, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _read_gguf(path: Path, home: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    kept = converted(digest_of(path), home) / str(dtype).removeprefix("torch.")
    with only_one(kept.parent):
        if kept.is_dir():
            return _read(kept, dtype)
        with contextlib.redirect_stderr(io.StringIO()):  # it draws a progress bar of its own and cannot be told not to
            model, tokenizer = _read(path.parent, dtype, gguf_file=path.name)
        _keep(model, tokenizer, kept)
    return model, tokenizer


def _read(folder: Path, dtype: torch.dtype, **more: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  (seconds)
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    sound: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True, **more}
    if not more:
        sound["use_safetensors"] = True
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **more)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **sound), tokenizer


def _keep(model: Any, tokenizer: Any, kept: Path) -> None:
    """Save next to its place and rename, so that a folder with that name is always whole."""
    need = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if shutil.disk_usage(kept.parent).free < 2 * need:
        return  # a slower start the next time is better than a full disk
    model.config.__dict__.pop("quantization_config", None)  # else save_pretrained takes it for quantised, and refuses
    model.hf_quantizer, model.is_quantized = None, False
    with tempfile.TemporaryDirectory(dir=kept.parent) as fresh:
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        Path(fresh).rename(kept)
        Path(fresh).mkdir()  # TemporaryDirectory wants something to remove
