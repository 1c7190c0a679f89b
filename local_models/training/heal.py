"""Continued pre-training: what makes a graft whole again, and the control beside it.

Depth up-scaling (SOLAR, arXiv 2312.15166) leaves a seam, and "continued pre-training" closes it. A curve says little
alone: the base that it was made from, continued on the same windows in the same order, is the honest comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from trl import SFTConfig, SFTTrainer

from local_models.training.corpus import Passed, files_of
from local_models.training.fit import Fitted, Watch, adapters, fit, settings
from local_models.training.recipe import Recipe
from local_models.training.windows import Encode, held_out, trained_on


def heal(
    model: Any, tokenizer: Any, corpus: Sequence[Path], recipe: Recipe, work: Path, watch: Watch
) -> tuple[Any, Fitted]:
    """Train on packed windows of the corpus, from the last whole checkpoint in `work`; return (trainer, how it went).

    The windows depend on the corpus, the length and the seed alone: two models with one tokenizer read the same.

    Raises:
        InputError: the corpus cannot be read, or is too short.
        DiskFullError, TrainingError: see `fit`.
    """
    (files, others), encode, end = files_of(corpus), encoder(tokenizer), _end_of(tokenizer)
    held = held_out(files, encode, end, recipe.length, recipe.held)
    readings: list[Passed] = []

    def rows() -> Iterator[dict[str, list[int]]]:
        readings.append(passed := Passed())  # the trainer begins more than once: to look, and to go on
        for window in trained_on(files, encode, end, recipe.length, recipe.seed, passed):
            yield {"input_ids": window, "labels": window}

    def make() -> SFTTrainer:
        return SFTTrainer(
            model=model,
            args=SFTConfig(**settings(recipe, work)),
            train_dataset=IterableDataset.from_generator(rows),
            eval_dataset=Dataset.from_dict({"input_ids": held, "labels": held}),
            processing_class=tokenizer,
            peft_config=adapters(recipe),
        )

    done = fit(make, recipe, work, watch)
    lines = max((each.lines for each in readings), default=0)  # none, where nothing was left to train
    damaged = max((each.files for each in readings), default=0)
    watch({"passed_over_lines": lines, "damaged_files": damaged, "passed_over_files": others})
    return done


def encoder(tokenizer: Any) -> Encode:
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _end_of(tokenizer: Any) -> int:
    """The end-of-text token: `<|endoftext|>` where there is one, since chat models end a turn with another."""
    known = tokenizer.get_vocab()
    return int(known.get("<|endoftext|>", tokenizer.eos_token_id))
