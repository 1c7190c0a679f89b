"""An expert more or less in a mixture that was built, without building it again: all others are copied byte by byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eot.errors import InputError
from eot.text import counted
from local_models.grafting.build import carry, read_config
from local_models.grafting.tensors import Checkpoint, Written, write
from local_models.moe.build import Source
from local_models.moe.card import Lineage, Part, read_card, write_card
from local_models.moe.computed import computed, read
from local_models.moe.family import DENSE, FAMILIES, MATRICES, Family, dense_name
from local_models.moe.recipe import SHARE
from local_models.moe.whole import whole


def add_expert(folder: Path, model: Source, rows: Tensor, out: Path) -> Lineage:
    """Write the mixture with the model's feed-forward layers as one more expert.

    Args:
        folder: the mixture.
        model: a dense model of the shape that its experts come from.
        rows: the new expert's row in each router, [L, H].
        out: a folder that does not exist yet.

    Raises:
        InputError: its experts are pieces of layers, the model is of another shape or has an expert's name, or the
            folder exists.
        WeightsError: a checkpoint is damaged, or the disk is full.
    """
    config, card, family = _opened(folder)
    _refuse_other_shape(config, read_config(model.folder), family)
    count = len(card.experts)
    if model.name in card.experts:
        raise InputError(f"the mixture has an expert called {model.name} already; give the model another name")
    if tuple(rows.shape) != (config["num_hidden_layers"], config["hidden_size"]):
        raise InputError(f"the new rows are {tuple(rows.shape)}; give one of the hidden state's width for each layer")
    with ExitStack() as stack:
        new = stack.enter_context(Checkpoint(model.folder))
        mixture = stack.enter_context(Checkpoint(folder))

        def more() -> Iterator[Written]:
            for layer in range(config["num_hidden_layers"]):
                for matrix in MATRICES:
                    name, like = family.expert(layer, count, matrix), new.tensor(dense_name(layer, matrix))
                    if matrix == "down" and card.shared != "none":
                        yield computed(name, like.shape, like.dtype, _halved(new, like.name))
                    else:
                        yield Written(name, like, new)

        def router(layer: int) -> Tensor:
            return torch.cat([read(mixture, family.router(layer)), rows[layer : layer + 1]])

        plan = [*_plan(mixture, family, config, list(range(count)), router), *more()]
        lineage = replace(
            card,
            experts=(*card.experts, model.name),
            sources=(*card.sources, Part.of(model.folder, model.name)),
        ).trained_by({"said": f"expert {model.name} added"})
        return _write(folder, plan, config | {family.experts_key: count + 1}, lineage, out)


def drop_expert(folder: Path, expert: int, out: Path) -> Lineage:
    """Write the mixture without one of its experts.

    Raises:
        InputError: there is no such expert, or fewer would be left than are active for a token; the folder exists.
        WeightsError: a checkpoint is damaged, or the disk is full.
    """
    config, card, family = _opened(folder)
    count = len(card.experts)
    if not 0 <= expert < count:
        raise InputError(f"there is no expert {expert}: they are numbered 0 to {count - 1}")
    if count - 1 < config["num_experts_per_tok"]:
        raise InputError(
            f"{counted(count - 1, 'expert')} would be left, and {config['num_experts_per_tok']} are active for a token"
        )
    kept = [place for place in range(count) if place != expert]
    with Checkpoint(folder) as mixture:

        def router(layer: int) -> Tensor:
            return read(mixture, family.router(layer))[kept]

        plan = list(_plan(mixture, family, config, kept, router))
        lineage = replace(card, experts=tuple(card.experts[place] for place in kept)).trained_by(
            {"said": f"expert {card.experts[expert]} dropped"}
        )
        return _write(folder, plan, config | {family.experts_key: count - 1}, lineage, out)


def _opened(folder: Path) -> tuple[dict[str, Any], Lineage, Family]:
    config, card = read_config(folder), read_card(folder)
    return config, card, FAMILIES[config["model_type"]]


def _refuse_other_shape(mixture: dict[str, Any], model: dict[str, Any], family: Family) -> None:
    if model.get("model_type") not in DENSE:
        raise InputError(
            f"the new expert is of type {model.get('model_type')}: give a dense model, a fine-tuned copy of the "
            f"mixture's base ({', '.join(DENSE)})"
        )
    width = mixture["moe_intermediate_size" if family.shared else "intermediate_size"]
    for name, ours in (
        ("num_hidden_layers", mixture["num_hidden_layers"]),
        ("hidden_size", mixture["hidden_size"]),
        ("hidden_act", mixture["hidden_act"]),
        ("intermediate_size", width),
    ):
        if model.get(name) != ours:
            raise InputError(f"{name} is {ours} in the mixture's experts and {model.get(name)} in the model")


def _plan(
    mixture: Checkpoint, family: Family, config: dict[str, Any], kept: Sequence[int], router: Any
) -> Iterator[Written]:
    """The mixture's tensors with these experts, numbered anew, and other routers."""
    layers = range(config["num_hidden_layers"])
    routers = {family.router(layer): layer for layer in layers}
    experts = {
        family.expert(layer, old, matrix): family.expert(layer, new, matrix)
        for layer in layers
        for new, old in enumerate(kept)
        for matrix in MATRICES
    }
    for name, like in mixture.tensors.items():
        if name in routers:
            shape = (len(router(routers[name])), like.shape[1])
            yield computed(name, shape, like.dtype, lambda layer=routers[name]: router(layer))  # type: ignore[misc]
        elif name in experts:
            yield Written(experts[name], like, mixture)
        elif ".experts." not in name:
            yield Written(name, like, mixture)


def _halved(model: Checkpoint, name: str) -> Any:
    return lambda: SHARE * read(model, name)


def _write(folder: Path, plan: Sequence[Written], config: dict[str, Any], card: Lineage, out: Path) -> Lineage:
    total = sum(torch.Size(one.like.shape).numel() for one in plan)
    routed = sum(torch.Size(one.like.shape).numel() for one in plan if ".experts." in one.name)
    active = total - routed + routed * card.active // len(card.experts)
    card = replace(card, parameters=total, active_parameters=active)
    with whole(out) as fresh:
        write(fresh, plan)
        (fresh / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        carry(folder, fresh)
        write_card(card, fresh)
    return card
