"""Branches: copies of one base, each fine-tuned on a domain of its own, in their feed-forward layers alone.

Branch-train-mix (arXiv 2403.07816) trains everything and averages what is no feed-forward layer. Here attention stays
the base's own, so that it is shared exactly: a mixture that always picks one branch is that branch, token by token.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from local_models.digests import digest_of
from local_models.grafting.build import CARD, carry, read_config
from local_models.grafting.tensors import Checkpoint, Written, write
from local_models.moe.card import Part
from local_models.moe.computed import computed
from local_models.moe.corpora import Corpus
from local_models.moe.descent import Schedule, Task, Watch, descend
from local_models.moe.whole import whole

LINEAGE = "branch.json"


def feed_forward(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters of a dense model's feed-forward layers, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if ".mlp." in name}


def train_branch(
    base: Path,
    model: Any,
    corpus: Corpus,
    schedule: Schedule,
    out: Path,
    *,
    called: str = "",
    watch: Watch = lambda _: None,
) -> list[float]:
    """Fine-tune a loaded copy of the base on a domain and write it as a checkpoint; return the loss of each step.

    What was not trained is written byte by byte as in the base, what was trained in float32: steps of a short training
    are smaller than what bfloat16 can tell apart.

    Args:
        base: the base's safetensors folder.
        model: the same, loaded in float32; it is trained in place.
        corpus: the domain.
        schedule: how long and how fast.
        out: a folder that does not exist yet. Beside it lies the state of a training that was interrupted.
        called: the base's name on the card, by default that of its folder.
        watch: is told each step.

    Raises:
        InputError, WeightsError: as `descend`; the folder exists or cannot be written.
    """
    trained = feed_forward(model)
    state = out.with_name(f".{out.name}.state.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    task = Task(f"branch {corpus.name}", trained, of={"base": asdict(Part.of(base, "base"))})
    losses = descend(model, task, corpus.taught, schedule, state=state, watch=watch)
    with whole(out) as folder:
        with Checkpoint(base) as opened:
            write(folder, list(_plan(opened, trained)))
        shutil.copyfile(base / "config.json", folder / "config.json")
        carry(base, folder)
        _card(base, called or base.name, corpus, schedule, losses, folder)
    state.unlink(missing_ok=True)
    return losses


def _plan(base: Checkpoint, trained: Mapping[str, torch.nn.Parameter]) -> Iterator[Written]:
    for name, stored in base.tensors.items():
        if (parameter := trained.get(name)) is not None:
            yield computed(name, stored.shape, "F32", _kept(parameter))
        else:
            yield Written(name, stored, base)


def _kept(parameter: torch.nn.Parameter) -> Callable[[], torch.Tensor]:
    return lambda: parameter.data


def _card(base: Path, called: str, corpus: Corpus, schedule: Schedule, losses: list[float], folder: Path) -> None:
    lineage = {
        "method": "branch of branch-train-mix (arXiv 2403.07816), feed-forward layers only",
        "domain": corpus.name,
        "corpus": corpus.source,
        "base": {"name": called, "config_sha256": digest_of(base / "config.json")},
        "schedule": asdict(schedule),
        "tokens": len(losses) * schedule.batch * corpus.taught.shape[1],
        "losses": losses,
        "model_type": read_config(base).get("model_type"),
    }
    (folder / LINEAGE).write_text(json.dumps(lineage, indent=2), encoding="utf-8")
    (folder / CARD).write_text(
        f"# {called} on {corpus.name}\n\nThe feed-forward layers of {called} were trained on {lineage['tokens']:,} "
        f"tokens of {corpus.source}; all else is {called}'s, whose licence it has. A branch for `eot models moe "
        "build`.\n",
        encoding="utf-8",
    )
