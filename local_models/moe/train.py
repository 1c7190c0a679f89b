"""Training a mixture that was built: its routers alone, all but its experts, its experts alone, or a few of them.

Fine-tuning what is not an expert is about as good as fine-tuning everything, and fine-tuning the experts alone clearly
worse (ST-MoE, arXiv 2202.08906): so experts are frozen by default. DeepSeek's ESFT (arXiv 2407.01906) is the
opposite niche: of many fine-grained experts, only those that a task uses.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.grafting.build import carry, read_config
from local_models.grafting.tensors import Checkpoint, Written, write
from local_models.moe.card import read_card, write_card
from local_models.moe.computed import computed
from local_models.moe.descent import Loss, Schedule, Task, Watch, descend, language_loss
from local_models.moe.family import FAMILIES
from local_models.moe.routing import balance_loss, watched, z_loss
from local_models.moe.whole import whole

Trains = Literal["router", "experts-frozen", "experts", "esft"]
_EXPERTS = ".mlp.experts."
_ROUTERS = (".mlp.gate.", ".mlp.shared_expert_gate.")


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
    named = dict(model.named_parameters())
    if what == "router":
        found = {name: one for name, one in named.items() if any(part in name for part in _ROUTERS)}
    elif what == "experts-frozen":
        found = {name: one for name, one in named.items() if _EXPERTS not in name and ".shared_expert." not in name}
    else:
        found = {name: one for name, one in named.items() if _EXPERTS in name}
    config = model.config
    normalised = config.model_type == "mixtral" or getattr(config, "norm_topk_prob", False)
    if what == "router" and config.num_experts_per_tok == 1 and normalised:
        raise InputError(
            "with one active expert its weight is always 1, so its router learns nothing from the text: "
            "build the mixture with --active 2, train it, and set num_experts_per_tok to 1 afterwards if you must"
        )
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
        InputError, WeightsError: as `descend` and `trained_of`; the folder exists or cannot be written.
    """
    trained = trained_of(model, training.what)
    state = out.with_name(f".{out.name}.state.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    task = Task(training.what, trained, mixture_loss(training.losses))
    handles = _only_used(model, windows) if training.what == "esft" else []
    try:
        made = descend(model, task, windows, training.schedule, state=state, watch=watch)
    finally:
        for handle in handles:
            handle.remove()
    said = f"{training.what} trained on {len(made) * training.schedule.batch * windows.shape[1]:,} tokens"
    save(folder, trained, out, {"said": said, **asdict(training), "curve": made})
    state.unlink(missing_ok=True)
    return made


def save(folder: Path, trained: Mapping[str, torch.nn.Parameter], out: Path, how: dict[str, Any]) -> None:
    """Write the mixture with these parameters, in float32; all else byte by byte as it was."""
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
        write_card(read_card(folder).trained_by(how), fresh)


def _as_stored(trained: Mapping[str, torch.nn.Parameter], folder: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Each trained parameter under its name on disk: experts lie there one by one, and Mixtral's block is renamed."""
    family = FAMILIES[read_config(folder)["model_type"]]
    for name, parameter in trained.items():
        value = parameter.data
        if _EXPERTS not in name:
            gate = any(part in name for part in _ROUTERS)
            yield (name.replace(".mlp.", f".{family.block}.") if gate else name), _is(value)
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


ESFT_SHARE = 0.2
"""ESFT's threshold p: the experts with the highest mean gate scores, until these make up that much."""
_PROBED_ROWS = 8


@torch.no_grad()
def _only_used(model: Any, windows: Tensor) -> list[Any]:
    """Hooks that leave a gradient only to the experts that these texts use most, layer by layer."""
    totals: list[Tensor] = []
    for row in windows[:_PROBED_ROWS]:
        with watched(model) as layers:
            model(input_ids=row[None].to(model.device), use_cache=False, logits_to_keep=1)
        scores = [_scores(layer.experts, layer.weights, layer.logits.shape[-1]) for layer in layers]
        totals = [one + two for one, two in zip(totals, scores, strict=True)] if totals else scores
    handles = []
    for layer, score in zip(model.model.layers, totals, strict=True):
        kept = used(score / score.sum())
        for parameter in layer.mlp.experts.parameters():
            mask = torch.zeros(len(score), device=parameter.device)
            mask[kept] = 1
            parameter.requires_grad_()
            handles.append(parameter.register_hook(lambda slope, mask=mask: slope * mask[:, None, None]))
    return handles


def _scores(experts: Tensor, weights: Tensor, count: int) -> Tensor:
    return torch.zeros(count).index_add_(0, experts.flatten().cpu(), weights.flatten().float().cpu())


def used(shares: Tensor, wanted: float = ESFT_SHARE) -> Sequence[int]:
    """The fewest experts whose shares [E] reach `wanted` together, best first."""
    order = shares.argsort(descending=True)
    count = int((shares[order].cumsum(0) < wanted).sum()) + 1
    return [int(place) for place in order[:count]]
