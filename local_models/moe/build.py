"""A mixture of experts as a checkpoint that plain transformers and vLLM load, written a tensor at a time.

L layers, E experts, H the width of the hidden state, I neurons of a feed-forward layer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.grafting.build import carry, read_config, refuse_unlike
from local_models.grafting.tensors import Checkpoint, Written, write
from local_models.moe.card import Lineage, Part, write_card
from local_models.moe.computed import computed, dtype_of, read
from local_models.moe.family import MATRICES, Family, dense_name, family_for, mixture_config
from local_models.moe.recipe import FeedForward, Recipe, names_of
from local_models.moe.whole import whole
from local_models.transformers_load import ROW_BYTES


@dataclass(frozen=True)
class Mixture:
    """One on disk: its folder, its class of transformers, parameters in all and for a token, and bytes."""

    folder: Path
    model_type: str
    experts: tuple[str, ...]
    active: int
    parameters: int
    active_parameters: int
    size: int


@dataclass(frozen=True)
class Source:
    """A dense model: its safetensors folder, and what it is called on the card."""

    folder: Path
    name: str


def build(
    base: Source, models: Sequence[Source], made_of: Recipe, gate: Tensor, out: Path, *, gate_from: str = "random"
) -> Mixture:
    """Write the mixture into a new folder, whole or not at all.

    What is no feed-forward layer is the base's where the models have the same, byte by byte; what differs becomes their
    mean, as in branch-train-mix.

    Args:
        base: of the shape of all others.
        models: the fine-tuned ones; none to make experts of the base itself.
        made_of: see `recipe`.
        gate: the routers' weights [L, E, H].
        out: a folder that does not exist yet.
        gate_from: how the gate was made, for the card.

    Raises:
        InputError: the folder exists, the models differ in shape, or their kind cannot be made into a mixture.
        WeightsError: a checkpoint is damaged, or the disk is full.
    """
    configs = [read_config(one.folder) for one in (base, *models)]
    for other in configs[1:]:
        refuse_unlike(configs[0], other)
    family, made_of = fitted(base.folder, made_of)
    wanted = (configs[0]["num_hidden_layers"], len(made_of.experts), configs[0]["hidden_size"])
    if tuple(gate.shape) != wanted:
        raise InputError(f"the gate is {tuple(gate.shape)} and this mixture needs {wanted}: layers, experts, width")
    neurons = configs[0]["intermediate_size"]
    config = mixture_config(
        configs[0],
        family,
        experts=len(made_of.experts),
        active=made_of.active,
        width=made_of.experts[0].width(neurons),
        shared_width=made_of.shared.width(neurons) if made_of.shared else 0,
    )
    with ExitStack() as stack, whole(out) as folder:
        opened = [stack.enter_context(Checkpoint(one.folder)) for one in (base, *models)]
        plan = _Plan(opened, family, made_of, configs[0]).tensors(gate)
        tensors = list(plan)
        size = write(folder, tensors)
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        carry(base.folder, folder)
        lineage = _lineage(base, models, family, made_of, tensors, gate_from)
        write_card(lineage, folder)
    return Mixture(
        out, family.model_type, lineage.experts, made_of.active, lineage.parameters, lineage.active_parameters, size
    )


def fitted(folder: Path, made_of: Recipe) -> tuple[Family, Recipe]:
    """The class that a mixture of this base becomes, and the recipe with the shared expert that the class must have.

    Raises:
        InputError: there is no such class, or the layers cannot be split so.
        WeightsError: the base cannot be read.
    """
    config = read_config(folder)
    family = family_for(config, shared=made_of.shared is not None)
    pieces, neurons = made_of.experts[0].pieces, config["intermediate_size"]
    if neurons % pieces:
        raise InputError(f"{neurons} neurons cannot be split into {pieces} equal pieces; take a divisor of {neurons}")
    _refuse_ragged(folder, config, pieces)
    return family, made_of if made_of.shared or not family.shared else _with_idle(made_of)


def _with_idle(made_of: Recipe) -> Recipe:
    return Recipe(
        made_of.experts, made_of.source, made_of.active, FeedForward(()), noise=made_of.noise, seed=made_of.seed
    )


def _refuse_ragged(folder: Path, config: Mapping[str, Any], pieces: int) -> None:
    """Rows of experts are whole 16 bytes in the dtype that transformers loads, or its grouped products refuse them."""
    neurons, hidden, dtype = config["intermediate_size"], config["hidden_size"], _dtype(folder, config)

    def whole_rows(width: int) -> bool:
        return width * dtype.itemsize % ROW_BYTES == 0

    said = f"in {str(dtype).removeprefix('torch.')} is no multiple of {ROW_BYTES} bytes, as transformers' experts need"
    if not whole_rows(hidden):
        raise InputError(f"the hidden size of {hidden} {said}: no mixture of these models would run")
    if not whole_rows(neurons // pieces):
        fit = [str(count) for count in range(1, neurons + 1) if neurons % count == 0 and whole_rows(neurons // count)]
        advice = f"{neurons} neurons can be split into {', '.join(fit)}" if fit else "no number of pieces would do"
        raise InputError(f"an expert's width of {neurons // pieces} {said}; {advice}")


def _dtype(folder: Path, config: Mapping[str, Any]) -> torch.dtype:
    """That which plain transformers loads: what the configuration names, else what is stored."""
    named = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    if isinstance(named, torch.dtype):
        return named
    with Checkpoint(folder) as opened:
        return dtype_of(opened, dense_name(0, "up"))


class _Plan:
    """What is written, tensor by tensor. `opened`: the base, then the models."""

    def __init__(
        self, opened: Sequence[Checkpoint], family: Family, made_of: Recipe, config: Mapping[str, Any]
    ) -> None:
        self._opened, self._family, self._made_of = opened, family, made_of
        self._layers, self._neurons = config["num_hidden_layers"], config["intermediate_size"]

    def tensors(self, gate: Tensor) -> Iterator[Written]:
        dense = {dense_name(layer, matrix) for layer in range(self._layers) for matrix in MATRICES}
        yield from (self._rest(name) for name in self._opened[0].tensors if name not in dense)
        for layer in range(self._layers):
            yield from self._layer(layer, gate[layer])

    def _layer(self, layer: int, gate: Tensor) -> Iterator[Written]:
        family = self._family
        yield computed(family.router(layer), gate.shape, "F32", lambda: gate)
        for place, expert in enumerate(self._made_of.experts):
            for matrix in MATRICES:
                yield self._matrix(family.expert(layer, place, matrix), layer, matrix, expert, place)
        if shared := self._made_of.shared:
            for matrix in MATRICES:
                yield self._matrix(family.shared_expert(layer, matrix), layer, matrix, shared, None)
            width = gate.shape[1]
            yield computed(family.shared_gate(layer), (1, width), "F32", lambda: torch.zeros(1, width))

    def _matrix(self, name: str, layer: int, matrix: str, expert: FeedForward, place: int | None) -> Written:
        """One matrix of one expert: a straight copy where it is one."""
        like = self._opened[expert.models[0] if expert.models else 0].tensor(dense_name(layer, matrix))
        noisy = self._made_of.noise and place is not None
        plain = len(expert.models) == 1 and expert.pieces == 1 and not noisy
        if plain and (expert.scale == 1 or matrix != "down"):
            return Written(name, like, self._opened[expert.models[0]])
        width, (rows, columns) = expert.width(self._neurons), like.shape
        shape = (rows, width) if matrix == "down" else (width, columns)
        return computed(name, shape, like.dtype, lambda: self._made(layer, matrix, expert, place, shape))

    def _made(self, layer: int, matrix: str, expert: FeedForward, place: int | None, shape: tuple[int, ...]) -> Tensor:
        if not expert.models:
            return torch.zeros(shape)
        weight = torch.stack([read(self._opened[at], dense_name(layer, matrix)) for at in expert.models]).mean(dim=0)
        if expert.pieces > 1:
            weight = weight.index_select(1 if matrix == "down" else 0, self._neurons_of(layer, expert))
        if self._made_of.noise and place is not None:
            draws = _draws(self._made_of.seed, layer, place, MATRICES.index(matrix))
            weight = weight + self._made_of.noise * weight.std() * torch.randn(weight.shape, generator=draws)
        return weight * expert.scale if matrix == "down" else weight

    def _neurons_of(self, layer: int, expert: FeedForward) -> Tensor:
        """Which neurons a piece has: a random partition, another one in each layer, the same for all models."""
        draws = _draws(self._made_of.seed, layer)
        order = torch.randperm(self._neurons, generator=draws)
        size = self._neurons // expert.pieces
        return order[expert.first * size : expert.last * size].sort().values

    def _rest(self, name: str) -> Written:
        """What is no feed-forward layer: the base's, or the mean of the models where they differ from it."""
        base, others = self._opened[0], self._opened[1:]
        stored = base.tensors[name]
        if all(_same(base, other, name) for other in others):
            return Written(name, stored, base)

        def mean() -> Tensor:
            return torch.stack([read(other, name) for other in others]).mean(dim=0)

        return computed(name, stored.shape, stored.dtype, mean)


def _draws(*seeds: int) -> torch.Generator:
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed + 1) % 2**63
    return torch.Generator().manual_seed(mixed)


def _same(base: Checkpoint, other: Checkpoint, name: str) -> bool:
    ours, theirs = base.tensors[name], other.tensors.get(name)
    if theirs is None or (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return theirs is not None and torch.equal(read(base, name), read(other, name))
    return all(one == two for one, two in zip(base.blocks(ours), other.blocks(theirs), strict=True))


def _lineage(
    base: Source, models: Sequence[Source], family: Family, made_of: Recipe, tensors: Sequence[Written], gate: str
) -> Lineage:
    parts = [Part.of(one.folder, one.name) for one in (base, *models)]
    names = names_of(made_of, [one.name for one in models] or [base.name])
    total = sum(_count(one) for one in tensors)
    routed = sum(_count(one) for one in tensors if ".experts." in one.name)
    active = total - routed + routed * made_of.active // len(made_of.experts)
    return Lineage(
        method=_method(len(models), made_of),
        model_type=family.model_type,
        base=parts[0],
        sources=tuple(parts[1:]),
        experts=tuple(names),
        active=made_of.active,
        shared=_shared_said(made_of.shared),
        gate=gate,
        parameters=total,
        active_parameters=active,
    )


def _method(models: int, made_of: Recipe) -> str:
    if made_of.experts[0].pieces > 1:
        return "fine-grained split (arXiv 2401.06066, 2406.16554)"
    return "branch-train-mix (arXiv 2403.07816)" if models else "sparse upcycling (arXiv 2212.05055)"


def _shared_said(shared: FeedForward | None) -> str:
    if shared is None or not shared.models:
        return "none"
    if shared.pieces > 1:
        return f"{shared.last} of {shared.pieces} pieces of the base"
    return "the base" if shared.models == (0,) else "the mean of the experts"


def _count(written: Written) -> int:
    return torch.Size(written.like.shape).numel()


def random_gate(layers: int, experts: int, width: int, seed: int = 0) -> Tensor:
    """N(0, 0.02) as transformers initialises a router: [L, E, H]."""
    return 0.02 * torch.randn(layers, experts, width, generator=torch.Generator().manual_seed(seed))
