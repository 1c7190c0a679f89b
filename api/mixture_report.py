"""A mixture's report in words and pictures: the loss of each system by domain, and where each domain's tokens went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from eot.errors import InputError, MissingExtraError
from evaluation.statistics import Interval, difference

ORACLE = "oracle: each domain's own branch"


@dataclass(frozen=True)
class Line:
    """One system: its loss by domain and on average (nats a token), its difference to the base with a 95 % interval.

    `own` is the weight that the expert of a text's own domain had in its tokens, over all layers; None without experts.
    """

    system: str
    losses: Mapping[str, float]
    mean: float
    to_base: Interval
    own: float | None = None


def lines(report: Mapping[str, Any]) -> list[Line]:
    """The report as lines: the base, what is made of it without experts, then the mixtures."""
    domains, systems = list(report["domains"]), _systems(report)
    base = systems["base"]["losses"]
    return [_line(name, system, base, domains) for name, system in systems.items()]


def paired(report: Mapping[str, Any], name: str) -> dict[str, Interval]:
    """The loss of one system less that of each other, on the same windows, with a 95 % interval.

    Raises:
        KeyError: the report has no such system.
    """
    domains, systems = list(report["domains"]), _systems(report)
    ours = _windows(systems[name], domains)
    return {other: difference(ours, _windows(one, domains)) for other, one in systems.items() if other != name}


def _systems(report: Mapping[str, Any]) -> dict[str, Any]:
    """All, the oracle with them, in the order of a report."""
    systems: dict[str, Any] = dict(report["systems"])
    branches = [f"branch {domain}" for domain in report["domains"]]
    oracle = {domain: systems[f"branch {domain}"]["losses"][domain] for domain in report["domains"]}
    systems[ORACLE] = {"losses": oracle, "spread": {}}
    first = ["base", "weight average", *branches, ORACLE]
    rest = sorted((name for name in systems if name not in first), key=_order)
    return {name: systems[name] for name in (*first, *rest)}


def _windows(system: Mapping[str, Any], domains: Sequence[str]) -> list[float]:
    return [value for domain in domains for value in system["losses"][domain]]


def _order(name: str) -> tuple[bool, bool, str]:
    return ("trained" in name, "1 active" in name, name)


def _line(name: str, system: Mapping[str, Any], base: Mapping[str, list[float]], domains: Sequence[str]) -> Line:
    losses = {domain: _mean(system["losses"][domain]) for domain in domains}
    gap = difference(_windows(system, domains), _windows({"losses": base}, domains))
    own = None
    if system["spread"]:
        own = _mean(
            [_mean([layer[at] for layer in system["spread"][domain]["weights"]]) for at, domain in enumerate(domains)]
        )
    return Line(name, losses, _mean(list(losses.values())), gap, own)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def table(found: Sequence[Line]) -> Table:
    """As it is shown on a terminal."""
    drawn = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0, 0, 1),
        title_justify="left",
        title="loss on held-out text, nats a token; own: the weight of a text's own expert",
    )
    drawn.add_column("", min_width=16)
    for heading in (*found[0].losses, "mean", "to base", "own"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for line in found:
        drawn.add_row(line.system, *cells(line))
    return drawn


def cells(line: Line) -> list[str]:
    """The numbers of a line as they are written."""
    said = "" if line.system == "base" else written(line.to_base)
    own = "" if line.own is None else f"{line.own:.0%}"
    return [*(f"{loss:.3f}" for loss in line.losses.values()), f"{line.mean:.3f}", said, own]


def written(gap: Interval) -> str:
    """A difference as it is written."""
    return f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write losses.png, specialisation.png and curves.png.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: they cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (an extra, and a second)
    except ImportError as fault:
        raise MissingExtraError("A plot", "eval") from fault
    found = lines(report)
    made = []
    drawings: dict[str, tuple[Callable[[Any], None], tuple[float, float]]] = {
        "losses": (partial(_losses, found=found), (8, 0.34 * len(found) + 1.6)),
        "specialisation": (partial(_specialisation, report=report, found=found), (8, 3.2)),
        "curves": (partial(_curves, report=report), (8, 3.4)),
    }
    for name, (paint, size) in drawings.items():
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        try:
            figure.savefig(folder / f"{name}.png", dpi=110)
        except OSError as fault:
            raise InputError(f"the plot cannot be written to {folder}: {fault}") from fault
        made.append(folder / f"{name}.png")
    return made


def _losses(figure: Any, found: Sequence[Line]) -> None:
    axes = figure.add_subplot()
    places = range(len(found))[::-1]
    for domain, mark in zip(found[0].losses, "os^Dv", strict=False):
        axes.plot([line.losses[domain] for line in found], list(places), mark, label=domain)
    axes.plot([line.mean for line in found], list(places), "k|", markersize=14, label="mean")
    axes.set_yticks(list(places), [line.system for line in found])
    axes.set_xlabel("loss on held-out text, nats a token")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)


def _specialisation(figure: Any, report: Mapping[str, Any], found: Sequence[Line]) -> None:
    """Of the last system with experts, and so the trained one where there is one: a panel a domain."""
    name = [line.system for line in found if line.own is not None][-1]
    spread, domains = report["systems"][name]["spread"], list(report["domains"])
    panels = figure.subplots(1, len(domains), sharey=True, squeeze=False)[0]
    figure.suptitle(f"{name}: the weight of each expert, layer by layer", fontsize=10)
    for axes, domain in zip(panels, domains, strict=True):
        shares = list(zip(*spread[domain]["weights"], strict=True))
        axes.stackplot(range(len(shares[0])), *shares, labels=domains, alpha=0.85)
        axes.set(title=f"text: {domain}", xlabel="layer", xlim=(0, len(shares[0]) - 1), ylim=(0, 1))
    panels[-1].legend(title="expert", fontsize=8, loc="lower right")


def _curves(figure: Any, report: Mapping[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    for name, curve in report["curves"]["branches"].items():
        left.plot(_smooth(curve), label=name)
    for name, one in report["curves"]["mixture"].items():
        right.plot(_smooth(one["curve"]), label=name)
    left.set(title="branches", xlabel="step", ylabel="training loss, running mean of 8")
    right.set(title="mixture", xlabel="step")
    for axes in (left, right):
        if axes.lines:
            axes.legend(fontsize=8)


def _smooth(curve: Sequence[float], width: int = 8) -> list[float]:
    return [_mean(curve[max(0, at - width + 1) : at + 1]) for at in range(len(curve))]
