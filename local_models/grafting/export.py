"""A safetensors model as one GGUF file, so that llama.cpp runs it: quantised a tensor at a time.

What a GGUF says beside the weights (tokenizer, chat template, rope) is taken as it is from the GGUF that the model
comes from: a graft differs from it in its layers alone. Names and the layout of q and k are those of llama.cpp's own
converter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from eot.errors import DiskFullError, InputError, WeightsError
from local_models.grafting.build import read_config, resolved

_KINDS: Mapping[str, tuple[Any, Any]] = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q5_0": (gguf.GGMLQuantizationType.Q5_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
KINDS = tuple(_KINDS)
_ARCHITECTURES: Mapping[str, str] = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""transformers' model_type -> GGUF's architecture, of those whose tensors are the same numbers in both."""
_SHAPE: Mapping[str, str] = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
"""What a GGUF says of a model's shape -> transformers' name of it."""
_ROTATED = re.compile(r"\b[qk]_proj\.(weight|bias)$")
_ROPE, _TEMPLATE = "rope_freqs.weight", "tokenizer.chat_template"
"""Llama 3.1's factors of the rotations are a tensor there, and none of the model's."""


def export(folder: Path, like: Path, out: Path, kind: str = "q8_0") -> int:
    """Write the model in `folder` to the new file `out`; return its bytes. Norms and biases stay float32.

    Args:
        folder: a safetensors folder.
        like: the GGUF file that it was made from, for all that is no weight.
        out: does not exist yet.
        kind: of the matrices: one of `KINDS`.

    Raises:
        InputError: no such kind, the file exists, or the model is not of a kind that can be written.
        WeightsError: `like` is no GGUF of the same kind and shape of model.
        DiskFullError: it cannot be written.

    Whatever is raised, nothing of the file is left.
    """
    if kind not in _KINDS:
        raise InputError(f"{kind!r} is no kind of weights; write {', '.join(KINDS)}")
    if out.exists():
        raise InputError(f"{out} exists already; name a new file")
    config = read_config(folder)
    if config.get("model_type") not in _ARCHITECTURES:
        raise InputError(f"a {config.get('model_type')} model cannot be exported; {', '.join(_ARCHITECTURES)} can")
    reader = _read(like, _ARCHITECTURES[config["model_type"]], resolved(config))
    part = out.with_name(f".{out.name}.part")
    try:
        _write(folder, config, reader, part, kind)
        part.rename(out)
    except OSError as fault:
        raise DiskFullError(f"{out} cannot be written: {fault.strerror or fault}; nothing is left") from fault
    finally:
        with suppress(OSError):
            part.unlink()
    return out.stat().st_size


def _read(like: Path, architecture: str, config: Mapping[str, Any]) -> Any:
    """`like`, if all that it says of the model's shape is so."""
    try:
        reader = gguf.GGUFReader(like)
        told = reader.fields["general.architecture"].contents()
    except (OSError, ValueError, KeyError) as fault:
        raise WeightsError(f"{like} is no GGUF file: {fault}") from fault
    if told != architecture:
        raise WeightsError(f"{like} is of the architecture {told}, the model of {architecture}")
    wanted = {key: config[name] for key, name in _SHAPE.items()}
    wanted["rope.freq_base"] = config["rope_parameters"]["rope_theta"]
    said = {key: field.contents() for key in wanted if (field := reader.fields.get(f"{architecture}.{key}"))}
    if tokens := reader.fields.get("tokenizer.ggml.tokens"):
        wanted["vocab_size"], said["vocab_size"] = config["vocab_size"], len(tokens.data)
    for key, theirs in said.items():
        if theirs != wanted[key] and not _near(theirs, wanted[key]):
            raise WeightsError(f"{like} is of another model: its {key} is {theirs}, the model's {wanted[key]}")
    return reader


def _near(one: Any, other: Any) -> bool:
    """A GGUF has its fractions as float32."""
    return isinstance(one, float) and math.isclose(one, other, rel_tol=1e-6)


def _write(folder: Path, config: Mapping[str, Any], reader: Any, out: Path, kind: str) -> None:
    architecture = reader.fields["general.architecture"].contents()
    quant, file_type = _KINDS[kind]
    with closing(gguf.GGUFWriter(out, architecture)) as writer:
        changed = {f"{architecture}.block_count": config["num_hidden_layers"], "general.file_type": int(file_type)}
        passed = ["general.architecture", "general.size_label"]
        if template := _template(folder):
            writer.add_string(_TEMPLATE, template)
            passed.append(_TEMPLATE)
        for key, field in reader.fields.items():
            if key.startswith("GGUF.") or key in passed:
                continue
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(key, changed.get(key, field.contents()), field.types[0], sub_type=sub_type)
        names = gguf.get_tensor_name_map(
            next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture),
            config["num_hidden_layers"],
        )
        for name, shape in _shapes(folder):
            dtype, nbytes, raw, raw_shape = _form(shape, quant)
            writer.add_tensor_info(_named(names, name), raw_shape, dtype, nbytes, raw)
        kept = [tensor for tensor in reader.tensors if tensor.name == _ROPE]
        for tensor in kept:
            writer.add_tensor_info(tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, tensor in _tensors(folder):
            plain = _laid_out(name, tensor, config, architecture)
            writer.write_tensor_data(
                plain if plain.ndim == 1 else gguf.quants.quantize(plain, _fit(plain.shape, quant))
            )
        for tensor in kept:
            writer.write_tensor_data(tensor.data)


def _template(folder: Path) -> str | None:
    """The chat template that the model's own tokenizer has: it may have been given one when it was taught."""
    with suppress(FileNotFoundError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    with suppress(FileNotFoundError):
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
        return told if isinstance(told, str) else None  # a list is several by name: the GGUF's own stays
    return None


def _form(shape: tuple[int, ...], quant: Any) -> tuple[Any, int, Any, tuple[int, ...]]:
    """What the header says of a tensor: numpy's dtype, bytes, GGML's type, and the shape of its bytes."""
    if len(shape) == 1:
        return np.dtype(np.float32), 4 * shape[0], None, shape
    fitting = _fit(shape, quant)
    if fitting == gguf.GGMLQuantizationType.F16:
        return np.dtype(np.float16), 2 * shape[0] * shape[1], None, shape
    raw_shape = gguf.quant_shape_to_byte_shape(shape, fitting)
    return np.dtype(np.uint8), raw_shape[0] * raw_shape[1], fitting, raw_shape


def _fit(shape: tuple[int, ...], quant: Any) -> Any:
    """Rows that are no whole number of blocks stay float16."""
    block, _ = gguf.GGML_QUANT_SIZES[quant]
    return quant if shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def _named(names: Any, name: str) -> str:
    found = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if not found:
        raise InputError(f"llama.cpp has no place for the tensor {name}")
    return str(found)


def _laid_out(name: str, tensor: torch.Tensor, config: Mapping[str, Any], architecture: str) -> Any:
    """float32, and for Llama q and k (and their biases) with the halves of each head interleaved, for ggml's rope."""
    plain = tensor.to(torch.float32).numpy()
    heads = config["num_attention_heads"]
    if architecture == "llama" and _ROTATED.search(name):
        count = heads if "q_proj" in name else config.get("num_key_value_heads") or heads
        shaped = plain.reshape(count, 2, plain.shape[0] // count // 2, *plain.shape[1:])
        plain = np.ascontiguousarray(shaped.swapaxes(1, 2)).reshape(plain.shape)
    return plain


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for file in _files(folder):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, tuple(opened.get_slice(name).get_shape())


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in _files(folder):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)
