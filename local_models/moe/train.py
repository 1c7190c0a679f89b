"""Training a mixture that was built: its routers alone, all but its experts, its experts alone, or a few of them.

By default the routers alone. Fine-tuning all but the experts is reported to be about as good as fine-tuning everything,
and fine-tuning the experts alone clearly worse (ST-MoE, arXiv 2202.08906). DeepSeek's ESFT (arXiv 2407.01906) is the
opposite niche: of many fine-grained experts, only those that a task uses.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from local_models.grafting.build import carry, read_config
from local_models.grafting.tensors import Checkpoint, Written, write
from local_models.moe.card import Lineage, Part, read_card, write_card
from local_models.moe.computed import computed
from local_models.moe.descent import Loss, Schedule, Task, Watch, descend, language_loss
from local_models.moe.family import FAMILIES
from local_models.moe.parts import part_of, tasked_experts, train_only_experts
from local_models.moe.recipe import refuse_untaught
from local_models.moe.routers.route import Route
from local_models.moe.routing import balance_loss, watched, z_loss
from local_models.moe.whole import whole

Trains = Literal["router", "experts-frozen", "experts", "esft"]
ESFT_SHARE = 0.2
"""ESFT's threshold p: of each layer the fewest experts that have that much of the gate's weight."""
_PROBED_ROWS = 32
"""ESFT's sample of the texts."""


@dataclass(frozen=True)
class RouterLosses:
    """What is added to the language model's loss: Switch's balance loss and ST-MoE's z-loss, with these weights.

    A balance loss evens out the load; where experts are specialists and the texts of one domain, that is not wanted.
    """

    balance: float = 0.0
    z: float = 1e-3


@dataclass(frozen=True)
class Training:
    """What of a mixture is trained, how long and how fast, and what is added to the loss."""

    what: Trains = "router"
    schedule: Schedule = field(default_factory=lambda: Schedule(tokens=10_240, rate=1e-3))
    losses: RouterLosses = field(default_factory=RouterLosses)


def trained_of(model: Any, what: Trains) -> dict[str, torch.nn.Parameter]:
    """The parameters that this way of training changes, by their names in the loaded model.

    Raises:
        InputError: routers are to learn, and only one expert is active with a weight of 1: the loss has no slope there.
    """
    parts = {"router": {"router"}, "experts-frozen": {"router", "rest"}}.get(what, {"experts"})
    found = {
        name: one
        for name, one in model.named_parameters()
        if part_of(name) in parts and ".shared_expert." not in name  # one that every token takes is an expert, too
    }
    config = model.config
    normalised = config.model_type == "mixtral" or getattr(config, "norm_topk_prob", False)
    if normalised:
        refuse_untaught((what,), config.num_experts_per_tok)
    return found


def mixture_loss(losses: RouterLosses) -> Loss:
    """The language model's loss and the routers' own."""

    def loss(model: Any, rows: Tensor) -> Tensor:
        with watched(model) as layers:
            value = language_loss(model, rows)
            if losses.balance:
                value = value + losses.balance * balance_loss(layers)
            return value + losses.z * z_loss(layers) if losses.z else value

    return loss


def train_mixture(
    folder: Path, model: Any, windows: Tensor, training: Training, out: Path, *, watch: Watch = lambda _: None
) -> list[float]:
    """Train a loaded mixture in place and write it as a new checkpoint; return the loss of each step.

    Args:
        folder: the mixture as it was built.
        model: the same, loaded in float32.
        windows: [N, T], of all domains.
        training: what is trained and how.
        out: a folder that does not exist yet; beside it lies the state of a training that was interrupted.
        watch: is told each step.

    Raises:
        InputError, WeightsError: as `descend` and `trained_of`; the mixture has no card; the folder exists or cannot
            be written.
    """
    trained, card = trained_of(model, training.what), read_card(folder)
    state = out.with_name(f".{out.name}.state.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    esft = training.what == "esft"
    kept = used_experts(model, windows) if esft else []
    of = {"mixture": asdict(Part.of(folder, "mixture")), "losses": asdict(training.losses), "kept": kept}
    task = Task(training.what, trained, mixture_loss(training.losses), of)
    handles = [
        handle
        for layer, experts in zip(model.model.layers, kept, strict=esft)
        for handle in train_only_experts(layer.mlp, experts)
    ]
    try:
        made = descend(model, task, windows, training.schedule, state=state, watch=watch)
    finally:
        for handle in handles:
            handle.remove()
    said = f"{training.what} trained on {len(made) * training.schedule.batch * windows.shape[1]:,} tokens"
    save(folder, trained, out, card.trained_by({"said": said, **asdict(training), "curve": made}))
    state.unlink(missing_ok=True)
    return made


def save(folder: Path, trained: Mapping[str, torch.nn.Parameter], out: Path, card: Lineage) -> None:
    """Write the mixture with these parameters, in float32, and this card; all else byte by byte as it was."""
    with whole(out) as fresh, Checkpoint(folder) as opened:
        changed = dict(_as_stored(trained, folder))
        write(
            fresh,
            [
                computed(name, like.shape, "F32", changed[name]) if name in changed else Written(name, like, opened)
                for name, like in opened.tensors.items()
            ],
        )
        shutil.copyfile(folder / "config.json", fresh / "config.json")
        carry(folder, fresh)
        write_card(card, fresh)


def _as_stored(trained: Mapping[str, torch.nn.Parameter], folder: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Each trained parameter under its name on disk: experts lie there one by one, and Mixtral's block is renamed."""
    family = FAMILIES[read_config(folder)["model_type"]]
    for name, parameter in trained.items():
        value = parameter.data
        if part_of(name) != "experts":
            router = part_of(name) == "router"
            yield (name.replace(".mlp.", f".{family.block}.") if router else name), _is(value)
            continue
        layer = int(name.split(".layers.")[1].split(".")[0])
        for expert, own in enumerate(value):
            if name.endswith("down_proj"):
                yield family.expert(layer, expert, "down"), _is(own)
            else:
                half = own.shape[0] // 2
                yield family.expert(layer, expert, "gate"), _is(own[:half])
                yield family.expert(layer, expert, "up"), _is(own[half:])


def _is(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value


@torch.no_grad()
def used_experts(model: Any, windows: Tensor) -> list[list[int]]:
    """ESFT's experts of each layer for these texts [N, T], of which a sample from beginning to end is read."""
    decided: list[list[Route]] = []
    for row in windows[:: max(1, -(-len(windows) // _PROBED_ROWS))]:
        with watched(model) as layers:
            model(input_ids=row[None].to(model.device), use_cache=False, logits_to_keep=1)
        decided.append([Route(one.logits, one.probabilities, one.experts, one.weights) for one in layers])
    return [tasked_experts(routes, ESFT_SHARE) for routes in zip(*decided, strict=True)]
