"""What `eot models moe build|add|drop` does: a mixture of experts from models that lie here."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from api.grafting import place_of
from api.milestones import Tell, teller
from eot.errors import InputError, MissingExtraError
from eot.settings import MOE_JOBS, load
from eot.text import counted
from local_models.grafting.build import read_config
from local_models.grafting.sources import checkpoint_of

if TYPE_CHECKING:
    from torch import Tensor

    from local_models.moe.build import Source

GateInit = Literal["random", "hidden", "ridge", "zero"]
Shared = Literal["none", "base", "mean"]
_WINDOW = 64
"""Tokens that are read at once to make a gate: short enough for a few prompts."""


@dataclass(frozen=True)
class Place:
    """Where what is made goes: a new folder, or a name in the home. Progress goes to a file, if one is named."""

    out: Path | None = None
    name: str | None = None
    progress: Path | None = None


@dataclass(frozen=True)
class Mixing:
    """A mixture of `models`, fine-tuned copies of the base, or of the base alone. See `local_models.moe.recipe`.

    `texts`: what each model is for, in their order; a `hidden` or `ridge` gate is made from them. Where no gate is
    named it is `ridge` with texts and `random` without.
    """

    base: str
    models: tuple[str, ...] = ()
    active: int = 2
    copies: int = 1
    pieces: int = 1
    shared_pieces: int = 0
    shared: Shared = "none"
    noise: float = 0.0
    gate: GateInit | None = None
    texts: tuple[Path, ...] = ()
    seed: int = 0

    @property
    def gate_made(self) -> GateInit:
        return self.gate or ("ridge" if self.texts else "random")


def build_mixture(asked: Mixing, place: Place, config: Path | None, *, as_json: bool) -> None:
    """Build a mixture and say how to use it.

    Raises:
        InputError: the options do not go together, or the models do not.
        UnknownNameError, WeightsError, MissingExtraError: a model cannot be had, or the mixture not be written.
    """
    refuse_without_torch()
    from local_models.moe.build import build  # noqa: PLC0415  (torch takes seconds)
    from local_models.moe.recipe import recipe  # noqa: PLC0415

    home, tell = load(config).home, teller(place.progress)
    made_of = recipe(
        len(asked.models), active=asked.active, copies=asked.copies, pieces=asked.pieces,
        shared_pieces=asked.shared_pieces, shared=asked.shared, noise=asked.noise, seed=asked.seed,
    )  # fmt: skip
    out, model = mixture_place(place, home)
    base, models = source_of(asked.base, home), [source_of(name, home) for name in asked.models]
    _refuse_twice(models)
    rows = _gate(asked, base, home, tell)
    gate = rows if len(rows[0]) == len(made_of.source) else rows[:, list(made_of.source)]
    tell({"stage": "writing", "experts": len(made_of.experts)})
    built = build(base, models, made_of, gate, out, gate_from=asked.gate_made)
    told = {
        "model": model,
        "folder": str(out),
        "class": built.model_type,
        "experts": list(built.experts),
        "active": built.active,
        "parameters": built.parameters,
        "active_parameters": built.active_parameters,
        "bytes": built.size,
    }
    _say(told, as_json=as_json)


def _refuse_twice(models: Sequence[Source]) -> None:
    for one, other in combinations(models, 2):
        if one.name == other.name or one.folder.samefile(other.folder):
            raise InputError(
                f"the models {one.name} and {other.name} are the same, or called the same: each expert is of another "
                "model with a name of its own (--copies makes several of each)"
            )


def _gate(asked: Mixing, base: Source, home: Path, tell: Tell) -> Tensor:
    """[L, D, H] for D models, or [L, E, H] where no texts say what each is for."""
    import torch  # noqa: PLC0415

    from local_models.moe.build import random_gate  # noqa: PLC0415
    from local_models.moe.gate_init import hidden_gate, ridge_gate  # noqa: PLC0415

    config = read_config(base.folder)
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    count = max(1, len(asked.models)) * asked.copies * (asked.pieces - asked.shared_pieces)
    if asked.gate_made in {"random", "zero"}:
        if asked.texts:
            raise InputError(f"a {asked.gate_made} gate is made from no text: write --gate ridge, or leave --text out")
        zeros = torch.zeros(layers, count, width)
        return zeros if asked.gate_made == "zero" else random_gate(layers, count, width, asked.seed)
    if len(asked.texts) != len(asked.models) or len(asked.models) < 2:
        raise InputError(
            f"a {asked.gate_made} gate is made from a text for each of two models or more: "
            f"{counted(len(asked.models), 'model')} and {len(asked.texts)} --text were given"
        )
    tell({"stage": "reading what the routers see"})
    make = hidden_gate if asked.gate_made == "hidden" else ridge_gate
    return make(_seen(base.folder, home, asked.texts, asked.seed))


def _seen(folder: Path, home: Path, texts: Sequence[Path], seed: int) -> Any:
    import torch  # noqa: PLC0415

    from local_models.moe.corpora import read_text  # noqa: PLC0415
    from local_models.moe.gate_init import TOKENS, router_inputs  # noqa: PLC0415
    from local_models.transformers_load import load_model  # noqa: PLC0415

    model, tokenizer = load_model(folder, home, torch.float32)
    read = [read_text(text, tokenizer, window=_WINDOW, most=TOKENS, seed=seed) for text in texts]
    return router_inputs(model, read)


def texts_of(typed: Sequence[str], models: Sequence[str]) -> tuple[Path, ...]:
    """What each model is for: FILE in their order, or MODEL=FILE in any.

    Raises:
        InputError: some are written one way and some the other, or a model has none.
    """
    named = dict(one.split("=", 1) for one in typed if one.partition("=")[0] in models and "=" in one)
    if not named:
        return tuple(Path(one) for one in typed)
    if set(named) != set(models) or len(typed) != len(models):
        raise InputError("--text: write FILE for each model in their order, or MODEL=FILE for each of them")
    return tuple(Path(named[model]) for model in models)


def add_expert(
    mixture: str, model: str, text: Path, others: Sequence[Path], place: Place, config: Path | None, *, as_json: bool
) -> None:
    """Add a model to a mixture as one more expert; its row of the gate, a ridge's, tells `text` from the `others`.

    A note says so where the mixture's own rows were made otherwise: then their logits are of another scale.

    Raises:
        InputError: there are no other texts, or the model does not fit.
        UnknownNameError, WeightsError, MissingExtraError: as `build_mixture`.
    """
    refuse_without_torch()
    from local_models.moe import edit  # noqa: PLC0415
    from local_models.moe.card import read_card  # noqa: PLC0415
    from local_models.moe.gate_init import ridge_gate  # noqa: PLC0415

    if not others:
        raise InputError("a gate tells texts apart: say with --other what the expert is not for, once at least")
    home, tell = load(config).home, teller(place.progress)
    out, name = mixture_place(place, home)
    folder = checkpoint_of(mixture, home)
    tell({"stage": "reading what the routers see"})
    if note := gate_note(read_card(folder).gate):
        Console(stderr=True).print(note, soft_wrap=True, highlight=False, markup=False)
    rows = ridge_gate(_seen(folder, home, [text, *others], 0))[:, 0]
    card = edit.add_expert(folder, source_of(model, home), rows, out)
    _say({"model": name, "folder": str(out), "experts": list(card.experts), "active": card.active,
          "parameters": card.parameters, "active_parameters": card.active_parameters}, as_json=as_json)  # fmt: skip


def gate_note(gate: str) -> str:
    """What is to be known of a ridge's row beside rows that were made like this; nothing beside a ridge's."""
    if "ridge" in gate:
        return ""
    return (
        f"note: the new expert's row is a ridge's, and this mixture's gate is {gate}: their logits are of different "
        "scales, so see with explain whether the new one takes all or nothing, or train the router"
    )


def drop_expert(mixture: str, expert: str, place: Place, config: Path | None, *, as_json: bool) -> None:
    """Write a mixture without one of its experts, which is named or numbered from 0.

    Raises:
        InputError: there is no such expert, or too few would be left.
        UnknownNameError, WeightsError, MissingExtraError: as `build_mixture`.
    """
    refuse_without_torch()
    from local_models.moe import edit  # noqa: PLC0415
    from local_models.moe.card import read_card  # noqa: PLC0415

    home = load(config).home
    out, name = mixture_place(place, home)
    folder = checkpoint_of(mixture, home)
    names = read_card(folder).experts
    if not expert.isdecimal() and expert not in names:
        raise InputError(f"there is no expert {expert!r}: they are {', '.join(names)}")
    at = int(expert) if expert.isdecimal() else names.index(expert)
    card = edit.drop_expert(folder, at, out)
    _say({"model": name, "folder": str(out), "experts": list(card.experts), "active": card.active,
          "parameters": card.parameters, "active_parameters": card.active_parameters}, as_json=as_json)  # fmt: skip


def mixture_place(place: Place, home: Path) -> tuple[Path, str]:
    """As `place_of`, where a mixture may not be called what `/v1/moe` calls its jobs.

    Raises:
        InputError: as `place_of`, or it is called so.
    """
    if place.name == MOE_JOBS:
        raise InputError(f"{MOE_JOBS} is no name for a mixture: /v1/moe/{MOE_JOBS} has the jobs; take another")
    return place_of(place.out, place.name, home)


def source_of(name: str, home: Path) -> Source:
    """A model by name or path, called as the user called it."""
    from local_models.moe.build import Source  # noqa: PLC0415

    folder = checkpoint_of(name, home)
    return Source(folder, Path(name).name if name.startswith((".", "/", "~")) else name)


def refuse_without_torch() -> None:
    """Raise a MissingExtraError that says what to install."""
    try:
        import safetensors  # noqa: F401, PLC0415
        import torch  # noqa: F401, PLC0415
        import transformers  # noqa: F401, PLC0415
    except ImportError as fault:
        raise MissingExtraError("A mixture of experts", "torch") from fault


def _say(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
        return
    console = Console()
    console.print(
        f"{told['folder']}: {counted(len(told['experts']), 'expert')} ({', '.join(told['experts'])}), "
        f"{told['active']} for a token; "
        f"{_size(told['parameters'])} parameters, {_size(told['active_parameters'])} for a token",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
    console.print(f'an agent asks it with model = "{told["model"]}"', soft_wrap=True, markup=False)


def _size(parameters: int) -> str:
    return f"{parameters / 1e6:,.1f} M" if parameters >= 1e5 else f"{parameters:,}"
