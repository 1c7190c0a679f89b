"""Instruction tuning, and alignment by direct preference optimisation (DPO, arXiv 2305.18290), after SOLAR's recipe.

SOLAR (arXiv 2312.15166) teaches first and aligns then. DPO's loss is -log sigmoid of beta times how much more the
model prefers the chosen answer to the rejected one than the model that it began as: that is the margin.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from eot.errors import InputError
from local_models.training.fit import Fitted, Watch, adapters, fit, settings
from local_models.training.loading import TEMPLATE
from local_models.training.recipe import Recipe
from local_models.training.rows import examples, pairs, parted


def teach(
    model: Any, tokenizer: Any, files: Sequence[Path], recipe: Recipe, work: Path, watch: Watch
) -> tuple[Any, Fitted]:
    """Instruction tuning: the loss is that of the answers alone. Return (trainer, how it went).

    Raises:
        InputError: there is nothing to learn from, or no prompt leaves room for an answer.
        DiskFullError, TrainingError: see `fit`.
    """
    rows, passed = examples(files)
    learnt, held = parted(rows, recipe.held)
    watch({"rows": len(learnt), "held": len(held), "passed_over_lines": passed})
    _give_template(tokenizer)

    def make() -> SFTTrainer:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**settings(recipe, work), completion_only_loss=True),
            train_dataset=Dataset.from_list(learnt),
            eval_dataset=Dataset.from_list(held),
            processing_class=tokenizer,
            peft_config=adapters(recipe),
        )
        _count_fitting(trainer, len(rows), recipe, watch)
        return trainer

    return fit(make, recipe, work, watch)


def align(
    model: Any, tokenizer: Any, files: Sequence[Path], recipe: Recipe, work: Path, watch: Watch, beta: float = 0.1
) -> tuple[Any, Fitted]:
    """DPO on pairs of answers. With adapters the reference is the model without them, else a copy of it.

    Raises:
        InputError: there is nothing to learn from, or no prompt leaves room for an answer.
        DiskFullError, TrainingError: see `fit`.
    """
    rows, passed = pairs(files)
    learnt, held = parted(rows, recipe.held)
    watch({"rows": len(learnt), "held": len(held), "passed_over_lines": passed})
    _give_template(tokenizer)

    def make() -> DPOTrainer:
        trainer = DPOTrainer(
            model=model,
            ref_model=None if recipe.lora else copy.deepcopy(model),
            args=DPOConfig(**settings(recipe, work), beta=beta),
            train_dataset=Dataset.from_list(learnt),
            eval_dataset=Dataset.from_list(held),
            processing_class=tokenizer,
            peft_config=adapters(recipe),
        )
        _count_fitting(trainer, len(rows), recipe, watch)
        return trainer

    return fit(make, recipe, work, watch)


def _count_fitting(trainer: Any, rows: int, recipe: Recipe, watch: Watch) -> None:
    """Tell how many rows trl has dropped because their prompt alone fills the length."""
    learnt, held = len(trainer.train_dataset), len(trainer.eval_dataset)
    if not learnt or not held:
        raise InputError(
            f"{rows - learnt - held} of {rows} rows have prompts of {recipe.length} tokens or more, and none is left "
            f"to {'measure with' if learnt else 'learn from'}: take a greater --length"
        )
    watch({"rows": learnt, "held": held, "too_long_rows": rows - learnt - held})


def _give_template(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
