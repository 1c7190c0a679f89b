"""A graft as an ordinary safetensors checkpoint that plain transformers loads: copied layer by layer, byte by byte."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from eot.errors import InputError, MissingExtraError, WeightsError
from local_models.digests import digest_of, weights_digests
from local_models.grafting.layer_map import UNTRAINED, Layer, method_of, said
from local_models.grafting.tensors import Checkpoint, Tensor, Written, write

_LAYER = re.compile(r"(.*\.)?(layers)\.(\d+)\.(.+)")
_OUTPUTS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""What a decoder layer adds to the residual stream comes out of these two: zeroed, the layer is an identity."""
_BIASES = ("self_attn.o_proj.bias", "mlp.down_proj.bias")
"""And of these, where it has them."""
_ALIKE = ("gemma", "granite", "llama", "mistral", "mixtral", "olmo2", "phi3")
_WINDOWED = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
_FULL_EVERY = {"gemma2": 2, "gemma3_text": 6, "gpt_oss": 2, "olmo3": 4}
KINDS = tuple(sorted((*_ALIKE, *_WINDOWED, *_FULL_EVERY)))
"""The `model_type`s whose layers can stand elsewhere: all are alike, or differ in their attention's kind alone.

Where a configuration names no kinds, transformers gives every so-manieth layer full attention (`_FULL_EVERY`), or those
before `max_window_layers` (Qwen, 28 unless it is said).
"""
_QWEN_FULL_LAYERS = 28
_CARRIED = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
)
_SHAPING = (
    "model_type", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "num_hidden_layers", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "rope_parameters",
    "partial_rotary_factor", "sliding_window", "layer_types",
)  # fmt: skip
CARD, LINEAGE = "README.md", "graft.json"


@dataclass(frozen=True)
class Built:
    """A graft on disk: its folder, how many layers and parameters it has, and bytes written."""

    folder: Path
    layers: int
    parameters: int
    size: int


def build(models: Sequence[Path], layers: Sequence[Layer], out: Path, names: Sequence[str] = ()) -> Built:
    """Write the model that has these layers into a new folder, whole or not at all.

    Embeddings, norms and the head come from the first model. Layers keep their own kind (sliding or full attention);
    every list of the configuration that has an entry a layer is mapped along.

    Args:
        models: one safetensors folder, or two of the same shape.
        layers: from the bottom up.
        out: a folder that does not exist yet.
        names: what the card calls the models; their folders' names unless given.

    Raises:
        InputError: the folder exists, the models differ in shape, or their kind of model cannot be grafted.
        WeightsError: a checkpoint is damaged, or the disk is full.
    """
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    configs = [read_config(folder) for folder in models]
    if len(models) > 1:
        refuse_unlike(*configs)
    config = grafted_config(configs[0], layers)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            ThreadPoolExecutor(1) as reader,  # beside the copying; waited for when all else is tidied up
            tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as fresh,
        ):
            folder = Path(fresh) / out.name
            folder.mkdir()
            digests = [reader.submit(weights_digests, path) for path in models]
            parameters, size = _written(models, layers, folder)
            (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            carry(models[0], folder)
            names = names or [path.name for path in models]
            _card(models, names, [each.result() for each in digests], layers, folder, parameters)
            folder.rename(out)
    except OSError as fault:
        raise WeightsError(
            f"the graft cannot be written to {out}: {fault.strerror or fault}; nothing is left"
        ) from fault
    return Built(out, len(layers), parameters, size)


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's configuration.

    Raises:
        WeightsError: there is none, or it names no decoder with a list of layers.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise WeightsError(f"{folder} has no readable config.json: {fault}") from fault
    if not isinstance(config.get("num_hidden_layers"), int):
        raise WeightsError(f"{folder / 'config.json'} names no num_hidden_layers: only plain decoders can be grafted")
    return config


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as transformers understands it: what is not said or is said in an older way, filled in.

    Raises:
        MissingExtraError: transformers is not installed.
        WeightsError: transformers knows no such model, or the settings contradict each other.
    """
    try:
        from transformers import CONFIG_MAPPING  # noqa: PLC0415  (an extra, and seconds)
    except ImportError as fault:
        raise MissingExtraError("Comparing models", "torch") from fault
    try:
        found: dict[str, Any] = CONFIG_MAPPING[config.get("model_type")].from_dict(deepcopy(dict(config))).to_dict()
    except (KeyError, ValueError, TypeError, StrictDataclassError) as fault:
        raise WeightsError(f"transformers cannot read the configuration of a {config.get('model_type')}") from fault
    return found | {"head_dim": found.get("head_dim") or found["hidden_size"] // found["num_attention_heads"]}


def refuse_unlike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raise an InputError that names the first setting in which two models differ, where it shapes their layers.

    Raises:
        MissingExtraError, WeightsError: see `resolved`.
    """
    ours, theirs = resolved(ours), resolved(theirs)
    for name in _SHAPING:
        if (ours.get(name) or None) != (theirs.get(name) or None):
            raise InputError(
                f"the models cannot be grafted onto each other: {name} is {ours.get(name)} in one and "
                f"{theirs.get(name)} in the other"
            )


def grafted_config(config: Mapping[str, Any], layers: Sequence[Layer]) -> dict[str, Any]:
    """The configuration with these layers: their number, and every list that has an entry a layer.

    Raises:
        InputError: layers of this kind of model depend on their place, or the map is empty.
    """
    if not layers:
        raise InputError("a model without layers cannot be made")
    if config.get("model_type") not in KINDS:
        raise InputError(f"a {config.get('model_type')} model cannot be grafted; {', '.join(KINDS)} can")
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) > 1:
        raise InputError("mixtures with dense layers cannot be grafted: which ones are dense depends on their place")
    count = config["num_hidden_layers"]
    kinds = layer_types(config)
    made = dict(config) | ({"layer_types": kinds} if kinds else {})
    for name, value in list(made.items()):
        if isinstance(value, list) and len(value) == count and name.endswith(("layers", "layer_types")):
            made[name] = [value[layer.index] for layer in layers]
    return made | {"num_hidden_layers": len(layers)}


def layer_types(config: Mapping[str, Any]) -> list[str] | None:
    """Each layer's kind of attention, of a model of one of the `KINDS`; None where all are of one kind.

    Older configurations name none: transformers then derives a layer's kind from its place, which copying changes.
    """
    if named := config.get("layer_types"):
        return list(named)
    told = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern")
    pattern = told or _FULL_EVERY.get(config["model_type"])
    places = range(config["num_hidden_layers"])
    if pattern:
        return ["full_attention" if (at + 1) % pattern == 0 else "sliding_attention" for at in places]
    if config["model_type"] in _WINDOWED and config.get("use_sliding_window") and config.get("sliding_window"):
        first = config.get("max_window_layers", _QWEN_FULL_LAYERS)
        return ["sliding_attention" if at >= first else "full_attention" for at in places]
    return None


def _written(models: Sequence[Path], layers: Sequence[Layer], folder: Path) -> tuple[int, int]:
    opened = [Checkpoint(path) for path in models]
    try:
        tensors = list(_plan(opened, layers))
        return sum(_count(one.like) for one in tensors), write(folder, tensors)
    finally:
        for one in opened:
            one.__exit__()


def _plan(opened: Sequence[Checkpoint], layers: Sequence[Layer]) -> Iterator[Written]:
    """What is written: what is no layer from the first model, then the layers in their new order."""
    first = opened[0]
    yield from (Written(name, tensor, first) for name, tensor in first.tensors.items() if not _LAYER.fullmatch(name))
    parts = [_by_layer(one) for one in opened]
    for place, layer in enumerate(layers):
        source, found = opened[layer.source], parts[layer.source].get(layer.index, {})
        if not found:
            raise WeightsError(f"{source.folder} has no tensors of layer {layer.index}")
        if layer.identity and not found.keys() >= set(_OUTPUTS):
            raise InputError(
                f"layers of {source.folder} have no {' and '.join(_OUTPUTS)} to zero: no identity can be made"
            )
        for rest, tensor in found.items():
            prefix = _prefix(tensor.name)
            zero = layer.identity and rest in _OUTPUTS + _BIASES
            yield Written(f"{prefix}layers.{place}.{rest}", tensor, None if zero else source)


def _by_layer(checkpoint: Checkpoint) -> dict[int, dict[str, Tensor]]:
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.tensors.items():
        if match := _LAYER.fullmatch(name):
            found.setdefault(int(match[3]), {})[match[4]] = tensor
    return found


def _prefix(name: str) -> str:
    match = _LAYER.fullmatch(name)
    assert match, "only tensors of layers come here"
    return match[1] or ""


def _count(tensor: Tensor) -> int:
    total = 1
    for size in tensor.shape:
        total *= size
    return total


def carry(source: Path, folder: Path) -> None:
    """Copy what belongs to a model beside its weights: tokenizer, chat template, how it generates."""
    for pattern in _CARRIED:
        for file in source.glob(pattern):
            shutil.copyfile(file, folder / file.name)


def _card(
    models: Sequence[Path],
    names: Sequence[str],
    digests: Sequence[Sequence[str]],
    layers: Sequence[Layer],
    folder: Path,
    parameters: int,
) -> None:
    """Where it comes from, for people and for programs."""
    method = method_of(layers, read_config(models[0])["num_hidden_layers"])
    lineage = {
        "method": method,
        "map": said(layers),
        "layers": len(layers),
        "parameters": parameters,
        "sources": [
            {"name": name, "config_sha256": digest_of(path / "config.json"), "weights_sha256": weights}
            for name, path, weights in zip(names, models, digests, strict=True)
        ],
        "healed": False,
    }
    (folder / LINEAGE).write_text(json.dumps(lineage, indent=2), encoding="utf-8")
    whose = " and ".join(names)
    (folder / CARD).write_text(
        f"# A graft of {whose}\n\nLayers {said(layers)} of {whose}, {len(layers)} in all, {parameters:,} parameters; "
        f"not trained since: {UNTRAINED[method]}.\nThe licence is that of its source. Made by eot ({method}).\n",
        encoding="utf-8",
    )
