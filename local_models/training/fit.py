"""One training run around a trl trainer: goes on from the last whole checkpoint, and is told, timed and stopped.

The loop, the optimiser and the losses are trl's and transformers'; this is only what surrounds them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import TrainerCallback

from eot.errors import DiskFullError, TrainingError
from local_models.training.checkpoints import last_whole, mark, seconds_of
from local_models.training.processes import processes
from local_models.training.recipe import Recipe

Watch = Callable[[Mapping[str, Any]], None]
_FULL = ("No space left", "File too large", "PytorchStreamWriter", "file write failed", "os error 28", "os error 27")
"""How a disk without room is said by Python, by torch and by safetensors."""


@dataclass(frozen=True)
class Fitted:
    """A run that has ended: steps done, seconds of training in all, and what was logged: `log` has {step, ...} rows."""

    steps: int
    seconds: float
    log: tuple[Mapping[str, float], ...]


def settings(recipe: Recipe, work: Path, **more: Any) -> dict[str, Any]:
    """The arguments that all trl trainers share. On a processor trl's own defaults (bf16, checkpointing) do not fit."""
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(work),
        "max_steps": recipe.steps or 10**9,
        "per_device_train_batch_size": recipe.batch,
        "per_device_eval_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.gather,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": recipe.warmup,
        "max_length": recipe.length,
        "seed": recipe.seed,
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps",
        "eval_steps": recipe.evaluate_every,
        "eval_on_start": True,
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "use_cpu": not gpu,
        "bf16": gpu,
        "activation_checkpointing": gpu,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
    } | more


def adapters(recipe: Recipe) -> LoraConfig | None:
    """LoRA on every linear layer, or None where all weights are trained."""
    if not recipe.lora:
        return None
    return LoraConfig(r=recipe.lora, lora_alpha=2 * recipe.lora, target_modules="all-linear", task_type="CAUSAL_LM")


def fit(make: Callable[[], Any], recipe: Recipe, work: Path, watch: Watch) -> tuple[Any, Fitted]:
    """Train what `make` gives, in the folder `work`; return (trainer, how it went).

    Raises:
        DiskFullError: a checkpoint could not be written; the one before it is whole.
        TrainingError: the loss is no number any more.
    """
    state = processes()
    with state.main_process_first():  # which deletes what was cut off
        resumed = last_whole(work)
    trainer = make()
    around = _Around(recipe, work, watch, seconds_of(resumed))
    trainer.add_callback(around)
    from transformers.trainer_callback import PrinterCallback  # noqa: PLC0415

    trainer.remove_callback(PrinterCallback)
    try:
        with suppress(_OverError):
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except (OSError, RuntimeError) as fault:
        raise _told(fault) from fault
    except Exception as fault:
        if type(fault).__name__ == "SafetensorError":  # it is no OSError, whatever it says
            raise _told(fault) from fault
        raise
    return trainer, Fitted(trainer.state.global_step, around.seconds, tuple(trainer.state.log_history))


def _told(fault: Exception) -> Exception:
    if isinstance(fault, OSError) or any(words in str(fault) for words in _FULL):
        return DiskFullError(
            f"a checkpoint could not be written ({fault}); the one before it is whole: make room, and run it again"
        )
    return TrainingError(f"the training broke off: {fault}")


class _OverError(Exception):
    """There is nothing left to train."""


class _Around(TrainerCallback):  # type: ignore[misc]
    """Marks whole checkpoints, tells what is logged, and ends the run when its time is over or its loss is lost."""

    def __init__(self, recipe: Recipe, work: Path, watch: Watch, before: float) -> None:
        self._recipe, self._work, self._watch = recipe, work, watch
        self._before, self._began = before, time.monotonic()
        self._state = processes()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A run that had ended when its process died is loaded, and not gone on with: trl would do one step more."""
        del args, control
        steps, minutes = self._recipe.steps, self._recipe.minutes
        if (steps and state.global_step >= steps) or (minutes and self._before >= 60 * minutes):
            raise _OverError

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, state
        if self._recipe.minutes and self._all_agree(self.seconds >= 60 * self._recipe.minutes):
            control.should_training_stop = control.should_save = control.should_evaluate = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        del args, control
        if not math.isfinite(logs.get("loss", logs.get("eval_loss", 0.0))):
            raise TrainingError(f"the loss is no number at step {state.global_step}: take a lower --learning-rate")
        if state.is_world_process_zero:
            self._watch({"step": state.global_step, "seconds": round(self.seconds, 1), **logs})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, control
        self._state.wait_for_everyone()  # each process writes its own random state
        if state.is_world_process_zero:
            mark(self._work, state.global_step, self.seconds)

    def _all_agree(self, over: bool) -> bool:  # noqa: FBT001 - one value
        """Processes whose clocks differ must stop after the same step."""
        if self._state.num_processes == 1:
            return over
        told = torch.tensor([float(over)], device=self._state.device)
        torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
        return bool(told.item())
