"""`eot models graft heal|teach|align`: train what was grafted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.commands.options import Config, Json, Name, Out, Progress

Model = Annotated[str, typer.Argument(help="A name, or a safetensors folder.")]
Control = Annotated[str | None, typer.Option(help="Train this model on the same, to compare.")]
Steps = Annotated[int, typer.Option(min=0, help="Steps at most.")]
Minutes = Annotated[float, typer.Option(min=0, help="No new step after so long; checkpoints count what was done.")]
Lora = Annotated[int, typer.Option(min=0, help="Train adapters of this rank and merge them; 0: all weights.")]
Rate = Annotated[float | None, typer.Option(help="[default: by stage, and higher with --lora]")]
Batch = Annotated[int, typer.Option(min=1, help="Rows that are read at once.")]
Gather = Annotated[int, typer.Option(min=1, help="Such batches for one step.")]
Length = Annotated[int, typer.Option(min=2, help="Tokens of a row.")]
Warmup = Annotated[int, typer.Option(min=0, help="Steps in which the learning rate rises.")]
Seed = Annotated[int, typer.Option(min=0)]
Every = Annotated[int, typer.Option(min=1, help="Steps between two looks at the held-out loss, and two checkpoints.")]
Restart = Annotated[bool, typer.Option("--restart", help="Throw away what an earlier run that broke off has left.")]
Held = Annotated[int, typer.Option(min=1, help="Rows that are held out to measure with, at most.")]


def heal(
    model: Model,
    corpus: Annotated[list[Path], typer.Option(help="A text file, JSON lines with `text`, or a folder of such.")],
    out: Out = None,
    name: Name = None,
    control: Control = None,
    steps: Steps = 0,
    tokens: Annotated[int, typer.Option(min=0, help="Tokens at most, in place of steps.")] = 0,
    minutes: Minutes = 0,
    lora: Lora = 0,
    learning_rate: Rate = None,
    batch: Batch = 4,
    gather: Gather = 1,
    length: Length = 256,
    warmup: Warmup = 10,
    seed: Seed = 0,
    every: Every = 20,
    held: Held = 16,
    restart: Restart = False,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Continued pre-training on your text. A command that was broken off goes on where its last checkpoint is."""
    from api.training import Training, paths_of, steps_of, train
    from local_models.training.recipe import Recipe

    steps = steps_of(steps, tokens, batch * gather * length)
    rate = learning_rate or (2e-4 if lora else 5e-5)
    recipe = Recipe(steps, minutes, lora, rate, batch, gather, length, warmup, seed, every, every, held)
    asked = Training("heal", model, paths_of(corpus), recipe, out, name, control, progress, restart=restart)
    train(asked, config, as_json=as_json)


def teach(
    model: Model,
    examples: Annotated[list[Path], typer.Option(help="JSON lines: prompt and completion, or messages.")],
    out: Out = None,
    name: Name = None,
    control: Control = None,
    steps: Steps = 0,
    minutes: Minutes = 0,
    lora: Lora = 16,
    learning_rate: Rate = None,
    batch: Batch = 4,
    gather: Gather = 1,
    length: Length = 512,
    warmup: Warmup = 10,
    seed: Seed = 0,
    every: Every = 20,
    held: Held = 64,
    restart: Restart = False,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Instruction tuning on questions and answers: the loss is that of the answers alone."""
    from api.training import Training, paths_of, train
    from local_models.training.recipe import Recipe

    rate = learning_rate or (2e-4 if lora else 2e-5)
    recipe = Recipe(steps, minutes, lora, rate, batch, gather, length, warmup, seed, every, every, held)
    asked = Training("teach", model, paths_of(examples), recipe, out, name, control, progress, restart=restart)
    train(asked, config, as_json=as_json)


def align(
    model: Model,
    pairs: Annotated[list[Path], typer.Option(help="JSON lines: prompt, chosen and rejected.")],
    out: Out = None,
    name: Name = None,
    steps: Steps = 0,
    minutes: Minutes = 0,
    beta: Annotated[float, typer.Option(min=0.001, max=10, help="How far it may go from the model it began as.")] = 0.1,
    lora: Lora = 16,
    learning_rate: Rate = None,
    batch: Batch = 2,
    gather: Gather = 1,
    length: Length = 512,
    warmup: Warmup = 10,
    seed: Seed = 0,
    every: Every = 20,
    held: Held = 64,
    restart: Restart = False,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Direct preference optimisation on pairs of answers; rows of SOLAR's Math-Alignment are read, too."""
    from api.training import Training, paths_of, train
    from local_models.training.recipe import Recipe

    rate = learning_rate or (1e-5 if lora else 1e-6)
    recipe = Recipe(steps, minutes, lora, rate, batch, gather, length, warmup, seed, every, every, held)
    asked = Training("align", model, paths_of(pairs), recipe, out, name, None, progress, beta, restart)
    train(asked, config, as_json=as_json)
