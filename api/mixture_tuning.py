"""What `eot models moe tune` does: a mixture that lies here is trained further, whatever it was built of."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from api.milestones import teller
from api.mixing import Place, mixture_place, refuse_without_torch
from api.mixture_training import Trains
from eot.settings import load
from local_models.grafting.sources import checkpoint_of

if TYPE_CHECKING:
    from local_models.moe.descent import Step
    from local_models.moe.judge import Judged


@dataclass(frozen=True)
class Tuning:
    """A mixture, the texts of each domain, what of it is trained on them and how."""

    mixture: str
    corpora: Mapping[str, Path]
    what: Trains = "experts-frozen"
    tokens: int = 10_240
    rate: float = 1e-4
    balance: float = 0.0
    z: float = 1e-3
    window: int = 256
    held: int | None = 8_192
    seed: int = 0


def tune(asked: Tuning, place: Place, config: Path | None, *, as_json: bool) -> None:
    """Train, write a new mixture, and print the loss of each domain before and after.

    Raises:
        InputError: the corpora or the options cannot be used, or the model is no mixture.
        UnknownNameError, WeightsError, MissingExtraError: it cannot be had, or something not be written.
    """
    refuse_without_torch()
    import torch  # noqa: PLC0415  (seconds)

    from local_models.moe.corpora import read_corpus  # noqa: PLC0415
    from local_models.moe.descent import Schedule  # noqa: PLC0415
    from local_models.moe.judge import judge_mixture  # noqa: PLC0415
    from local_models.moe.train import RouterLosses, Training, train_mixture  # noqa: PLC0415
    from local_models.transformers_load import load_model  # noqa: PLC0415

    home, console, tell = load(config).home, Console(stderr=True), teller(place.progress)
    out, name = mixture_place(place, home)
    folder = checkpoint_of(asked.mixture, home)
    model, tokenizer = load_model(folder, home, torch.float32)
    share = -(-asked.tokens // max(1, len(asked.corpora)))
    corpora = [
        read_corpus(domain, path, tokenizer, window=asked.window, most=(share, asked.held), seed=asked.seed)
        for domain, path in asked.corpora.items()
    ]
    held = {corpus.name: corpus.held for corpus in corpora}

    def watch(step: Step) -> None:
        tell(asdict(step))
        if console.is_terminal:
            console.print(f"{step.stage}: {step.step}/{step.steps}, loss {step.loss:.3f}", style="dim")

    tell({"stage": "judging"})
    before = judge_mixture(model, held)
    training = Training(
        asked.what,
        Schedule(tokens=asked.tokens, rate=asked.rate, seed=asked.seed),
        RouterLosses(asked.balance, asked.z),
    )
    train_mixture(folder, model, torch.cat([corpus.taught for corpus in corpora]), training, out, watch=watch)
    after = judge_mixture(model, held)
    told = [_facts(domain, before, after) for domain in held]
    if as_json:
        sys.stdout.write(json.dumps({"model": name, "folder": str(out), "domains": told}) + "\n")
    else:
        _print(told, name)


def _facts(domain: str, before: Judged, after: Judged) -> dict[str, Any]:
    spread = after.spread[domain]
    return {
        "domain": domain,
        "before": _mean(before.losses[domain]),
        "after": _mean(after.losses[domain]),
        "entropy": _mean(spread.entropy),
        "shares": [_mean(list(layers)) for layers in zip(*spread.shares, strict=True)],
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _print(told: list[dict[str, Any]], name: str) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("held-out text", "before", "after", "entropy", "busiest expert"):
        table.add_column(heading, justify="left" if heading == "held-out text" else "right")
    for one in told:
        table.add_row(
            one["domain"], f"{one['before']:.3f}", f"{one['after']:.3f}", f"{one['entropy']:.2f}",
            f"{max(one['shares']):.0%}",
        )  # fmt: skip
    Console().print(table)
    Console().print(f'an agent asks it with model = "{name}"', soft_wrap=True, markup=False)
