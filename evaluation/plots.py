"""The three pictures of a report, as PNG: accuracy over tokens, calibration, and what the exchange did.

Matplotlib is imported when the first one is drawn; no window, no global state of it is touched.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eot.errors import MissingExtraError
from evaluation.exchanged import Exchanged
from evaluation.summary import Report, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Mapping[str, str] = {
    "council": "#0b6e99",
    "round0": "#64a8c4",
    "cot": "#2b2b2b",
    "single": "#9aa1a8",
    "best-single": "#9aa1a8",
    "sc": "#d9730d",
    "sc-tokens": "#dfab01",
    "self-moa": "#ad1a72",
    "moa": "#6940a5",
}
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
_RIGHT, _WRONG, _MENDED, _BROKEN = "#2e8b57", "#b0b7bf", "#0b6e99", "#e03e3e"
_LONGEST_NAME = 32
_NAMED = 12
"""So many systems are named one by one; of more, the legend says what colours and what marks stand for."""
_IN_A_ROW = 5
"""Councils whose flows stand side by side."""
_LOG_FROM = 20
"""The ratio of dearest to cheapest from which tokens are drawn on a logarithmic axis."""


def plots(report: Report) -> dict[str, bytes]:
    """PNG files by name; a picture with nothing to show is left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    measured = [score for score in report.scores if score.accuracy]
    calibrated = [score for score in measured if score.calibration and not score.hindsight]
    if len(calibrated) > _NAMED:
        calibrated = [score for score in calibrated if score.system.startswith("council:")]
    flowing = [one for one in report.exchanges if one.kept or one.mended or one.broken or one.left]
    wanted: Mapping[str, tuple[Callable[[Axes, Any], None], Sequence[Any], float]] = {
        "front": (_front, measured, 4.6 if len(measured) <= _NAMED else 5.8),
        "calibration": (_reliability, calibrated, 4.6),
        "exchange": (_flows, flowing, 3.6 * -(-len(flowing) // _IN_A_ROW)),
    }
    return {name: _drawn(draw, shown, height) for name, (draw, shown, height) in wanted.items() if shown}


def pareto(scores: Sequence[Score]) -> list[Score]:
    """The systems that no other beats in both accuracy and tokens, cheapest first; chosen with hindsight: none."""
    front: list[Score] = []
    for score in sorted(scores, key=lambda score: (score.tokens, -_share(score))):
        if not score.hindsight and score.accuracy and (not front or _share(score) > _share(front[-1])):
            front.append(score)
    return front


def _share(score: Score) -> float:
    return score.accuracy.mean if score.accuracy else 0.0


def _drawn(draw: Callable[[Axes, Any], None], shown: Sequence[Any], height: float) -> bytes:
    with _figure(height) as (axes, save):
        draw(axes, shown)
        return save()


@contextmanager
def _figure(height: float) -> Iterator[tuple[Axes, Callable[[], bytes]]]:
    try:
        from matplotlib import rc_context  # noqa: PLC0415  # takes half a second, and most commands draw nothing
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as fault:
        raise MissingExtraError("the plots of a report", "eval") from fault
    # Names of agents are text, not formulas: a "$" in one must not be set as mathematics.
    with rc_context({"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, height), dpi=130, layout="constrained")

        def save() -> bytes:
            file = io.BytesIO()
            figure.savefig(file, format="png", metadata={"Software": None})
            return file.getvalue()

        yield figure.add_subplot(), save


def _looks(scores: Sequence[Score]) -> Iterator[tuple[Score, str, str]]:
    """Each score with a colour for what it is and a mark for which council or agent."""
    subjects: dict[str, str] = {}
    for score in scores:
        kind, _, subject = score.system.partition(":")
        mark = subjects.setdefault(subject, _MARKS[len(subjects) % len(_MARKS)])
        yield score, _COLOURS.get(kind, "#e03e3e"), mark


def _front(axes: Axes, scores: Sequence[Score]) -> None:
    """Every system by what it costs and how often it is right; the line joins those that nobody beats in both."""
    few = len(scores) <= _NAMED
    for score, colour, mark in _looks(scores):
        assert score.accuracy
        centre = 100 * score.accuracy.mean
        bars = [[centre - 100 * score.accuracy.low], [100 * score.accuracy.high - centre]]
        axes.errorbar(
            [score.tokens],
            [centre],
            yerr=bars if few else None,
            fmt=mark,
            color=colour,
            mfc="none" if score.hindsight else None,
            ms=10 if score.hindsight else 7,
            elinewidth=0.6,
            alpha=None if few else 0.8,
            label=_short(score.system) + (" (hindsight)" if score.hindsight else ""),
        )
    best = pareto(scores)
    axes.plot([s.tokens for s in best], [100 * _share(s) for s in best], color="#57606a", lw=0.8, ls="--", zorder=0)
    spent = [score.tokens for score in scores if score.tokens]
    if spent and max(spent) > _LOG_FROM * min(spent):
        axes.set_xscale("symlog")
    else:
        axes.set_xlim(left=0)
    right = "right, % (95 % interval)"
    if not few:
        right = "right, % (intervals are in the table)"
        axes.margins(y=0.1)
        _explain(axes, scores)
        for score in best:
            at = (score.tokens, 100 * _share(score))
            axes.annotate(_short(score.system), at, (0, 9), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlabel="tokens a question, read and written", ylabel=right)
    if few:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)


def _explain(axes: Axes, scores: Sequence[Score]) -> None:
    """A legend of colours, what kind of system it is, and of marks, whose."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    kinds, subjects = dict[str, str](), dict[str, str]()
    for score, colour, mark in _looks(scores):
        kind, _, subject = score.system.partition(":")
        kinds.setdefault(kind + (" (hindsight)" if score.hindsight else ""), colour)
        if subject:
            subjects.setdefault(subject, mark)
    shown = [Line2D([], [], marker="o", ls="", color=colour, label=kind) for kind, colour in kinds.items()]
    shown += [
        Line2D([], [], marker=mark, ls="", color="#57606a", mfc="none", label=_short(name))
        for name, mark in subjects.items()
    ]
    axes.legend(handles=shown, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)


def _reliability(axes: Axes, scores: Sequence[Score]) -> None:
    """How often answers of a given support are right; on the diagonal, support is the chance to be right."""
    axes.plot([0, 1], [0, 1], color="#b0b7bf", lw=0.8, zorder=0)
    one_kind = len({score.system.partition(":")[0] for score in scores}) == 1
    for at, (score, colour, mark) in enumerate(_looks(scores)):
        assert score.calibration
        bins = score.calibration.bins
        axes.plot(
            [bin_.confidence for bin_ in bins],
            [bin_.accuracy for bin_ in bins],
            marker=mark,
            color=f"C{at % 10}" if one_kind else colour,
            lw=1,
            label=f"{_short(score.system)} (ECE {score.calibration.ece:.2f})",
        )
    axes.set(xlabel="support of the answer", ylabel="share right", xlim=(0, 1.03), ylim=(-0.03, 1.03))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)


def _flows(axes: Axes, exchanges: Sequence[Exchanged]) -> None:
    """For each council a flow of questions, from right or wrong in round 0's vote to right or wrong in the verdict."""
    axes.set_axis_off()
    across, rows = min(len(exchanges), _IN_A_ROW), -(-len(exchanges) // _IN_A_ROW)
    # Limits are set, and every text lies within them: what hangs over an axes without a frame squeezes it to nothing.
    axes.set(xlim=(-0.3, 1.7 * across - 0.4), ylim=(-0.12 - 1.5 * (rows - 1), 1.25))
    for at, one in enumerate(exchanges):
        place, height = 1.7 * (at % _IN_A_ROW), -1.5 * (at // _IN_A_ROW)
        for flow in _bands(one):
            _band(axes, place, replace(flow, left=flow.left + height, right=flow.right + height))
        axes.text(place + 0.5, height + 1.15, _short(one.council), ha="center", weight="bold")
        axes.text(place, height - 0.02, "round 0", ha="center", va="top", fontsize=8)
        axes.text(place + 1, height - 0.02, "verdict", ha="center", va="top", fontsize=8)


@dataclass(frozen=True)
class _Flow:
    """So many questions, a share of all, that go from a height on the left to a height on the right."""

    label: str
    colour: str
    share: float
    left: float
    right: float


def _bands(one: Exchanged) -> list[_Flow]:
    """What was right lies on top of what was wrong, on both sides, with a gap between."""
    counts = {"kept right": one.kept, "mended": len(one.mended), "broken": len(one.broken), "left wrong": len(one.left)}
    total, gap = sum(counts.values()), 0.06
    kept, mended, broken, left = (count / total for count in counts.values())
    # The lower edge of each band, left and right: from below, wrong and then right; right counts below what was kept.
    edges = ((left + mended + broken + gap,) * 2, (left, left + broken + gap), (left + mended + gap, left), (0.0, 0.0))
    colours = (_RIGHT, _MENDED, _BROKEN, _WRONG)
    return [
        _Flow(f"{label}: {count}", colour, share, *edge)
        for (label, count), colour, share, edge in zip(
            counts.items(), colours, (kept, mended, broken, left), edges, strict=True
        )
        if count
    ]


def _band(axes: Axes, place: float, flow: _Flow) -> None:
    steps = [step / 40 for step in range(41)]
    eased = [step * step * (3 - 2 * step) for step in steps]
    low = [flow.left + (flow.right - flow.left) * ease for ease in eased]
    high = [height + flow.share for height in low]
    axes.fill_between([place + step for step in steps], low, high, color=flow.colour, alpha=0.85, lw=0)
    middle = (low[20] + high[20]) / 2
    axes.text(place + 0.5, middle, flow.label, ha="center", va="center", fontsize=8)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
