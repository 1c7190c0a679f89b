"""A trained model as an ordinary safetensors folder: adapters merged, whole or not at all, with a card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from eot.errors import DiskFullError, InputError
from local_models.digests import digest_of, weights_digests

LINEAGE, CARD, GRAFT = "training.json", "README.md", "graft.json"
_CARRIED = ("tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt", "generation_config.json", GRAFT)


def write_model(trainer: Any, source: Path, out: Path, told: Mapping[str, Any], dtype: torch.dtype, name: str) -> None:
    """Write what was trained into the new folder `out`; adapters are added to the weights that they were trained on.

    Args:
        trainer: a trl trainer whose run has ended.
        source: the folder that was trained; its tokenizer and its lineage are carried along.
        out: does not exist yet.
        told: what the lineage says of this training: `source`, `stage`, `steps`, `data`, and what else there is.
        dtype: of the weights that are written: those that were trained and measured, rounded. The lineage names it.
        name: what the card calls it.

    Raises:
        InputError: the folder exists by now.
        DiskFullError: it cannot be written; nothing of it is left.
    """
    if out.exists():
        raise InputError(f"{out} exists by now; name another folder")
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    model = model.to(dtype)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as fresh:
            folder = Path(fresh) / out.name
            model.save_pretrained(folder)
            trainer.processing_class.save_pretrained(folder)
            _carry(source, folder)
            _card(source, folder, {**told, "dtype": str(dtype).removeprefix("torch.")}, name)
            folder.rename(out)
    except Exception as fault:
        if isinstance(fault, OSError) or type(fault).__name__ == "SafetensorError":
            raise DiskFullError(f"{out} cannot be written: {fault}; the checkpoints are whole") from fault
        raise


def _carry(source: Path, folder: Path) -> None:
    """What the saving has not written; a chat template that was given in training is in the tokenizer's own files."""
    for pattern in _CARRIED:
        for file in source.glob(pattern):
            if not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)


def _card(source: Path, folder: Path, told: Mapping[str, Any], name: str) -> None:
    before = json.loads((source / LINEAGE).read_text(encoding="utf-8")) if (source / LINEAGE).is_file() else []
    digests = {"config_sha256": digest_of(source / "config.json"), "weights_sha256": weights_digests(source)}
    lineage = [*before, {**told, **digests}]
    (folder / LINEAGE).write_text(json.dumps(lineage, indent=2), encoding="utf-8")
    grafted = folder / GRAFT
    if told["stage"] == "heal" and grafted.is_file():
        healed = json.loads(grafted.read_text(encoding="utf-8")) | {"healed": True}
        grafted.write_text(json.dumps(healed, indent=2), encoding="utf-8")
    steps = "\n".join(
        f"- {each['stage']} of {each['source']}: {each['steps']} steps, {each['data']}" for each in lineage
    )
    (folder / CARD).write_text(
        f"# {name}\n\n{_grafted(grafted)}{steps}\n\nTrained and measured in float32, written as {told['dtype']}.\n"
        "The licence is that of its source. Made by eot with trl.\n",
        encoding="utf-8",
    )


def _grafted(file: Path) -> str:
    """The line of what it was grafted from, if it was."""
    if not file.is_file():
        return ""
    graft = json.loads(file.read_text(encoding="utf-8"))
    return f"- a graft of {' and '.join(each['name'] for each in graft['sources'])}: layers {graft['map']}\n"
