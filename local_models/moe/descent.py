"""Gradient descent on some of a model's parameters, resumable to the bit: the one loop of all training of experts.

B windows a step, T tokens each.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from eot.errors import InputError, WeightsError

_SAVE_SECONDS = 120.0
_CLIP = 1.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `tokens` in all, `batch` windows a step, AdamW at `rate` after a linear warm-up.

    The rate then falls along a cosine to a tenth. No weight decay: a few thousand tokens must not shrink what is known.
    """

    tokens: int = 20_000
    batch: int = 1
    rate: float = 1e-4
    warmup: float = 0.1
    seed: int = 0

    def steps(self, window: int) -> int:
        return max(1, self.tokens // (self.batch * window))

    def at(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        done = (step - warm) / max(1, steps - warm)
        return self.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Step:
    """One step that was made: counted from 1, of how many, its loss (nats a token) and the seconds since the start."""

    stage: str
    step: int
    steps: int
    loss: float
    seconds: float


Watch = Callable[[Step], None]
Loss = Callable[[Any, Tensor], Tensor]
"""(model, rows[B, T]) -> what is minimised."""


def language_loss(model: Any, rows: Tensor) -> Tensor:
    """Nats a token of the rows [B, T]; the first token of a row is not predicted."""
    logits = model(input_ids=rows, use_cache=False).logits[:, :-1].float()  # B T-1 V
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@dataclass(frozen=True)
class Task:
    """What a training is called in progress and errors, what it trains, by name, and what is minimised.

    `of`, as JSON: what else must be the same when it goes on: the weights that it began with, the loss's settings.
    """

    name: str
    trained: Mapping[str, torch.nn.Parameter]
    loss: Loss = language_loss
    of: Mapping[str, Any] = field(default_factory=dict)


def descend(
    model: Any,
    task: Task,
    windows: Tensor,
    schedule: Schedule,
    *,
    state: Path | None = None,
    watch: Watch = lambda _: None,
) -> list[float]:
    """Train the parameters in place; return the loss of each step.

    Args:
        model: a causal LM, in float32.
        task: what is trained; all else is frozen.
        windows: [N, T]; taken in an order that the seed gives, again and again.
        schedule: how long and how fast.
        state: where to keep the parameters and Adam's moments every two minutes. What is found there is gone on from:
            the result is that of a training that was never interrupted.
        watch: is told each step.

    Raises:
        InputError: the state is of another training, or the loss is no number any more.
        WeightsError: the state is damaged, or the disk is full.
    """
    trained, stage = task.trained, task.name
    for parameter in model.parameters():
        parameter.requires_grad = False
    for parameter in trained.values():
        parameter.requires_grad = True
    optimizer = torch.optim.AdamW(list(trained.values()), lr=schedule.rate, weight_decay=0.0)
    steps = schedule.steps(windows.shape[1])
    told = {"schedule": asdict(schedule), "windows": digest(windows), "stage": stage, **task.of}
    losses = _resume(state, trained, optimizer, told, stage) if state else []
    began = kept = time.monotonic()
    for step in range(len(losses), steps):
        optimizer.param_groups[0]["lr"] = schedule.at(step, steps)
        value = task.loss(model, _batch(windows, schedule, step).to(model.device))
        value.backward()  # type: ignore[no-untyped-call]  # torch does not say
        torch.nn.utils.clip_grad_norm_(list(trained.values()), _CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(value.detach()))
        if not math.isfinite(losses[-1]):
            raise InputError(f"{stage}: the loss is {losses[-1]} at step {step + 1}; try a smaller learning rate")
        watch(Step(stage, step + 1, steps, losses[-1], time.monotonic() - began))
        if state and time.monotonic() - kept > _SAVE_SECONDS:
            _keep(state, trained, optimizer, told, losses)
            kept = time.monotonic()
    for parameter in trained.values():
        parameter.requires_grad = False
    return losses


def digest(windows: Tensor) -> str:
    """SHA-256 of windows and their shape."""
    shaped = f"{tuple(windows.shape)}".encode() + windows.numpy().tobytes()
    return hashlib.sha256(shaped).hexdigest()


def _batch(windows: Tensor, schedule: Schedule, step: int) -> Tensor:
    """The rows [B, T] of a step: each pass over the windows has its own order."""
    places = []
    for at in range(step * schedule.batch, (step + 1) * schedule.batch):
        turn, place = divmod(at, len(windows))
        draws = torch.Generator().manual_seed(schedule.seed * 1_000_003 + turn)
        places.append(int(torch.randperm(len(windows), generator=draws)[place]))
    return windows[places]


def _keep(
    state: Path, trained: Mapping[str, Any], optimizer: Any, told: Mapping[str, Any], losses: list[float]
) -> None:
    tensors = {}
    for name, parameter in trained.items():
        moments = optimizer.state[parameter]
        tensors[f"value:{name}"] = parameter.detach()
        tensors[f"first:{name}"], tensors[f"second:{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
    said = {"told": json.dumps(told), "losses": json.dumps(losses)}
    part = state.with_name(f".{state.name}.part")
    try:
        save_file(tensors, part, metadata=said)
        part.replace(state)
    except (OSError, SafetensorError) as fault:
        part.unlink(missing_ok=True)
        raise WeightsError(f"the state of the training cannot be kept in {state}: {fault}") from fault


def _resume(
    state: Path, trained: Mapping[str, Any], optimizer: Any, told: Mapping[str, Any], stage: str
) -> list[float]:
    """The losses of the steps that were made; parameters and moments are as they were after them."""
    if not state.exists():
        return []
    try:
        with safe_open(state, "pt") as kept:
            said = kept.metadata() or {}
            losses: list[float] = json.loads(said.get("losses", "[]"))
            if json.loads(said.get("told", "{}")) != json.loads(json.dumps(told)) or {
                name.partition(":")[2]
                for name in kept.keys()  # noqa: SIM118  (no mapping)
            } != set(trained):
                raise InputError(
                    f"{stage}: {state} was left by a training with other settings, texts or weights; "
                    "give the same ones or remove it"
                )
            for name, parameter in trained.items():
                with torch.no_grad():
                    parameter.copy_(kept.get_tensor(f"value:{name}"))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(len(losses))),
                    "exp_avg": kept.get_tensor(f"first:{name}").to(parameter.device),
                    "exp_avg_sq": kept.get_tensor(f"second:{name}").to(parameter.device),
                }
    except (OSError, ValueError, SafetensorError) as fault:
        raise WeightsError(f"{stage}: the kept state {state} is damaged ({fault}); remove it to begin anew") from fault
    return losses
