"""What `eot models graft heal|teach|align` does: train a model that lies here, and say how it went."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from api.broken_off import alone, begin, work_of
from api.curves import Curve, curve_of, draw
from api.grafting import place_of
from api.milestones import Tell, teller
from eot.errors import DiskFullError, InputError, MissingExtraError
from eot.settings import load
from local_models.grafting.sources import checkpoint_of
from local_models.training.recipe import Recipe

if TYPE_CHECKING:
    from local_models.training.fit import Fitted

Stage = Literal["heal", "teach", "align"]
CURVE = "curve"
_PASSED = {
    "passed_over_lines": "{} lines were passed over",
    "damaged_files": "{} files have bytes that are no UTF-8",
    "too_long_rows": "{} rows are longer than --length, and were passed over",
    "passed_over_files": "{} files of the folder are no text by their names, and were passed over",
}
_log = logging.getLogger(__name__)
_TOLD = (
    "run",
    "step",
    "seconds",
    "num_tokens",
    "loss",
    "eval_loss",
    "eval_rewards/margins",
    "rows",
    "held",
    "passed_over_lines",
    "damaged_files",
    "passed_over_files",
    "too_long_rows",
)


@dataclass(frozen=True)
class Training:
    """One stage of one model: on which files, how, and where the result goes.

    `control` is a model that is trained on the same, for comparison; it is not kept. `restart` throws away what an
    earlier run that was broken off has left.
    """

    stage: Stage
    model: str
    data: tuple[Path, ...]
    recipe: Recipe
    out: Path | None = None
    name: str | None = None
    control: str | None = None
    progress: Path | None = None
    beta: float = 0.1
    restart: bool = False


def train(asked: Training, config: Path | None, *, as_json: bool) -> None:
    """Train, from the last checkpoint where there is one, and write the model; then print how the loss went.

    Raises:
        InputError: the data or the recipe cannot be used, another recipe has begun this model, or another process is
            at it.
        UnknownNameError, WeightsError, MissingExtraError: the model cannot be had.
        TrainingError, DiskFullError: it broke off.
    """
    home = load(config).home
    out, model = place_of(asked.out, asked.name, home)
    _refuse_without_extra()
    _one_gpu()
    from local_models.training.processes import processes  # noqa: PLC0415  (torch takes seconds)

    main = processes().is_main_process
    work = work_of(out)
    source = checkpoint_of(asked.model, home)
    control = checkpoint_of(asked.control, home) if asked.control else None
    data = _digest(asked) if main else ""
    asked_for = _asked_for(asked, data, source, control) if main else {}
    with alone(work, out.name) if main else nullcontext():
        if main:
            begin(work, asked_for, restart=asked.restart)
        processes().wait_for_everyone()
        tell = _watching(asked, teller(asked.progress) if main else teller(None), terminal=main)
        curves = {"model": _run(asked, source, work, tell, out, data=data)}
        if control:
            same = replace(asked.recipe, steps=curves["model"].steps, minutes=0.0)
            curves["control"] = _run(asked, control, work, tell, None, recipe=same)
        if main:
            _end(out, work, curves, asked)
            _print(curves, out, model, as_json=as_json)


def _run(
    asked: Training,
    source: Path,
    work: Path,
    tell: Tell,
    out: Path | None,
    recipe: Recipe | None = None,
    data: str = "",
) -> Curve:
    """Train one model, or take what an earlier, broken-off command has already done of it."""
    from local_models.training.checkpoints import write_whole  # noqa: PLC0415
    from local_models.training.finish import write_model  # noqa: PLC0415
    from local_models.training.loading import load_for_training  # noqa: PLC0415

    who, recipe = ("control" if out is None else "model"), recipe or asked.recipe
    done = work / f"{who}.json"
    if done.is_file() and (out is None or (work / "made").is_dir()):
        kept = json.loads(done.read_text(encoding="utf-8"))
        if not _raised(kept["limits"], (recipe.steps, recipe.minutes)):
            return Curve(**kept["curve"])
    model, tokenizer, dtype = load_for_training(source)
    step = _stage(asked)
    trainer, fitted = step(model, tokenizer, recipe, work / who, lambda row: tell({"run": who, **row}))
    curve = curve_of(fitted.log, fitted.seconds)
    if trainer.accelerator.is_main_process:
        if out is not None:
            shutil.rmtree(work / "made", ignore_errors=True)
            write_model(trainer, source, work / "made", _lineage(asked, fitted, data), dtype, out.name)
        told = {"limits": (recipe.steps, recipe.minutes), "curve": asdict(curve)}
        try:
            write_whole(done, json.dumps(told))
        except OSError as fault:
            raise DiskFullError(f"{done} cannot be written: {fault.strerror}; the checkpoints are whole") from fault
    trainer.accelerator.wait_for_everyone()
    return curve


def _raised(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether a limit of steps or minutes was raised; 0 is none."""
    return any((was or math.inf) < (is_ or math.inf) for was, is_ in zip(before, now, strict=True))


def _stage(asked: Training) -> Callable[..., tuple[Any, Fitted]]:
    """The stage's own function, given its data."""
    if asked.stage == "heal":
        from local_models.training.heal import heal  # noqa: PLC0415

        return lambda model, tokenizer, *rest: heal(model, tokenizer, asked.data, *rest)
    from local_models.training.tune import align, teach  # noqa: PLC0415

    if asked.stage == "teach":
        return lambda model, tokenizer, *rest: teach(model, tokenizer, asked.data, *rest)
    return lambda model, tokenizer, recipe, work, watch: align(
        model, tokenizer, asked.data, recipe, work, watch, asked.beta
    )


def _digest(asked: Training) -> str:
    """That of the data, so that a run goes on only with what it began with."""
    from local_models.digests import digest_of_all  # noqa: PLC0415
    from local_models.training.corpus import files_of  # noqa: PLC0415

    return digest_of_all(files_of(asked.data)[0] if asked.stage == "heal" else asked.data)


def _asked_for(asked: Training, data: str, source: Path, control: Path | None) -> dict[str, Any]:
    """What has to be the same for a run that was broken off to go on."""
    from local_models.digests import weights_digests  # noqa: PLC0415

    told: dict[str, Any] = {"stage": asked.stage, "model": asked.model, "control": asked.control, "data": data}
    weights = {
        "weights": list(weights_digests(source)),
        "control_weights": [*weights_digests(control)] if control else [],
    }
    return told | weights | asdict(asked.recipe)


def _end(out: Path, work: Path, curves: Mapping[str, Curve], asked: Training) -> None:
    """The curves into the model's folder, the folder into its place, and the checkpoints away."""
    made = work / "made"
    beta = {"beta": asked.beta} if asked.stage == "align" else {}
    recipe = {"control": asked.control} | beta | asdict(asked.recipe)
    whole = {who: asdict(curve) for who, curve in curves.items()} | {"recipe": recipe}
    (made / f"{CURVE}.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    draw(curves, made / f"{CURVE}.png", asked.stage)
    made.rename(out)
    shutil.rmtree(work)


def _lineage(asked: Training, fitted: Fitted, data: str) -> dict[str, Any]:
    names = ", ".join(path.name for path in asked.data)
    recipe = {key: value for key, value in asdict(asked.recipe).items() if key not in ("steps", "minutes")}
    told = {"source": Path(asked.model).name, "stage": asked.stage, "data": names, "data_sha256": data}
    beta = {"beta": asked.beta} if asked.stage == "align" else {}
    return told | beta | {"steps": fitted.steps} | {"seconds": round(fitted.seconds)} | recipe


def _watching(asked: Training, tell: Tell, *, terminal: bool) -> Tell:
    console = Console(stderr=True)
    now: dict[str, Any] = {"steps": asked.recipe.steps or None}

    def watch(row: Mapping[str, Any]) -> None:
        now.update((key, row[key]) for key in _TOLD if key in row)
        tell(now)
        if terminal and console.is_terminal and "eval_loss" in row:
            console.print(f"{row['run']}, step {row['step']}: held-out loss {row['eval_loss']:.3f}", style="dim")
        elif terminal and (said := [words.format(row[key]) for key, words in _PASSED.items() if row.get(key)]):
            console.print(", ".join(said), style="yellow")

    return watch


def _print(curves: Mapping[str, Curve], out: Path, model: str, *, as_json: bool) -> None:
    told = {who: curve.summary() for who, curve in curves.items()}
    if as_json:
        sys.stdout.write(json.dumps({"model": model, "folder": str(out), "runs": told}) + "\n")
        return
    console = Console()
    for who, facts in told.items():
        console.print(f"{who}: " + ", ".join(f"{key} {value}" for key, value in facts.items()), soft_wrap=True)
    console.print(f'{out}: an agent asks it with model = "{model}"; {CURVE}.png and {CURVE}.json lie in it')


def _one_gpu() -> None:
    """A process that no launcher began takes the first GPU: trl would spread it over all, slower than it should be."""
    if "WORLD_SIZE" in os.environ:
        return
    import torch  # noqa: PLC0415  (takes seconds)

    if (seen := torch.cuda.device_count()) > 1:  # asks the driver: no GPU is taken yet
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        launched = f"accelerate launch --multi_gpu --num_processes {seen} $(command -v eot) models graft ..."
        _log.warning("one of %d GPUs is used; for all of them: %s", seen, launched)


def _refuse_without_extra() -> None:
    try:
        import datasets  # noqa: F401, PLC0415
        import peft  # noqa: F401, PLC0415
        import trl  # noqa: F401, PLC0415
    except ImportError as fault:
        raise MissingExtraError("Training", "train") from fault


def paths_of(data: Sequence[Path]) -> tuple[Path, ...]:
    """The data as it is named on the command line.

    Raises:
        InputError: something is not there.
    """
    if absent := [str(path) for path in data if not path.exists()]:
        raise InputError(f"there is no file or folder {absent[0]}")
    return tuple(data)


def steps_of(steps: int, tokens: int, of_each: int) -> int:
    """Steps that read so many tokens at most, one at least, where each process reads `of_each` tokens a step.

    Raises:
        InputError: both are said.
    """
    if steps and tokens:
        raise InputError("say how long in one way: --steps or --tokens")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    return steps or (max(1, tokens // (of_each * launched)) if tokens else 0)
