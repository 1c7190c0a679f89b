"""How a training went, as numbers and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eot.errors import InputError, MissingExtraError

_KEPT = ("rewards/margins", "rewards/accuracies", "mean_token_accuracy")


@dataclass(frozen=True)
class Curve:
    """Losses are nats a token (of alignment: DPO's). `trained`: [step, tokens, loss]; `held`: rows on held-out data."""

    steps: int
    tokens: int
    seconds: float
    trained: Sequence[Sequence[float]]
    held: Sequence[Mapping[str, float]]

    def summary(self) -> dict[str, float]:
        """What a line says of it: before, and after."""
        first, last = self.held[0], self.held[-1]
        told: dict[str, float] = {"steps": self.steps, "tokens": self.tokens, "seconds": round(self.seconds, 1)}
        for key in first:
            if key not in ("step", "tokens"):
                told |= {f"{key}_before": round(first[key], 4), f"{key}_after": round(last[key], 4)}
        return told


def curve_of(log: Sequence[Mapping[str, float]], seconds: float) -> Curve:
    """From a trainer's log: rows with `loss` are of training, with `eval_loss` of held-out data."""
    trained: list[list[float]] = []
    held: list[dict[str, float]] = []
    tokens = counted = before = 0
    for row in log:
        step = int(row.get("step", 0))
        if "loss" in row:
            if (now := int(row.get("num_tokens", 0))) and now <= counted:
                before += counted  # trl counts from 0 again where a run goes on
            counted = now or counted
            tokens = before + counted
            trained.append([step, tokens, round(row["loss"], 5)])
        elif "eval_loss" in row and not (held and held[-1]["step"] == step):
            more = {key: round(row[f"eval_{key}"], 5) for key in _KEPT if f"eval_{key}" in row}
            held.append({"step": step, "tokens": tokens, "loss": round(row["eval_loss"], 5), **more})
    return Curve(int(trained[-1][0]) if trained else 0, tokens, seconds, trained, held)


def draw(curves: Mapping[str, Curve], path: Path, stage: str) -> None:
    """Losses over tokens, held-out ones as points.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (an extra, and a second)
    except ImportError as fault:
        raise MissingExtraError("A plot", "eval") from fault
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes: Any = figure.add_subplot()
    for at, (who, curve) in enumerate(curves.items()):
        colour = f"C{at}"
        axes.plot([row[1] for row in curve.trained], [row[2] for row in curve.trained], color=colour, alpha=0.25)
        held = [(row["tokens"], row["loss"]) for row in curve.held]
        axes.plot(*zip(*held, strict=True), "o-", color=colour, label=f"{who}, held out")
    axes.set(xlabel="tokens trained on", ylabel="DPO loss" if stage == "align" else "loss, nats a token", title=stage)
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except OSError as fault:
        raise InputError(f"the plot cannot be written to {path}: {fault}") from fault
