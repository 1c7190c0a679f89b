"""The report of `fusion_quality.py`: how often each system was right, and how far that is from the best single model.

Voters are found among what was kept: nothing is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from report import commit

from eot.types import Kind
from evaluation.statistics import Interval, accuracy, difference
from scoring import Ballot, vote

Row = Mapping[str, Any]
Scores = dict[str, dict[str, float]]
SINGLES = ("qwen-1.5b", "qwen-0.5b", "smollm2", "gemma")
PAIRS = {
    "qwen-1.5b+0.5b": ("qwen-1.5b", "qwen-0.5b"),
    "qwen+smollm2": ("qwen-0.5b", "smollm2"),
    "qwen+gemma": ("qwen-0.5b", "gemma"),
}
DEFAULT = {"qwen-1.5b+0.5b": "logit", "qwen+smollm2": "safe", "qwen+gemma": "safe"}
"""What `auto` stands for in each pair: the sets that vote."""
VOTES: Mapping[str, Sequence[str]] = {
    "vote of 4 models": SINGLES,
    "vote of 4 models + 3 fused": (*SINGLES, *(f"{pair} {method}" for pair, method in DEFAULT.items())),
} | {f"{pair} {DEFAULT[pair]} + vote": (*members, f"{pair} {DEFAULT[pair]}") for pair, members in PAIRS.items()}
"""Who votes, by majority; of equals the first one's answer wins."""


def report_of(rows: Sequence[Row], plot: Path | None, *, as_json: bool) -> None:
    """Print each part's table; draw the accuracies if asked."""
    tables = {key: table(mine) for key, mine in _parts(rows).items()}
    if as_json:
        print(json.dumps({"commit": commit(), "tables": tables}))
    else:
        for name, one in tables.items():
            print(f"\n## {name}\n")
            print("\n".join(_lines(one)))
    if plot and tables:
        plot.write_bytes(_drawn(tables))


def _parts(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each part; multiple choice by dataset, the word problems all together."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = row["part"] if row["part"] == "problems" else f"{row['part']}, {row['dataset']}"
        found.setdefault(name, []).append(row)
    return found


def table(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of each system: n, right (an interval), and against: the difference to the best member of its pair."""
    scores = _scores(rows)
    best = max((name for name in SINGLES if name in scores), key=lambda name: _mean(scores[name].values()))
    made = {}
    for system, mine in scores.items():
        pair = next((pair for pair in PAIRS if system.startswith(f"{pair} ")), "")
        rivals = PAIRS.get(pair, (best,))
        rival = max((name for name in rivals if name in scores), key=lambda name: _mean(scores[name].values()))
        made[system] = {
            "n": len(mine),
            "right": accuracy(list(mine.values())).model_dump(),
            "rival": None if system in SINGLES else rival,
            "against": None if system in SINGLES else _paired(mine, scores[rival]).model_dump(),
        }
    return made


def _scores(rows: Iterable[Row]) -> Scores:
    """Right or wrong, by system and question: what was asked, and the votes."""
    by_question: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_question.setdefault(row["id"], {})[row["system"]] = row
    complete = max((len(found) for found in by_question.values()), default=0)
    scores: Scores = {}
    for question, found in by_question.items():
        if len(found) < complete:
            continue  # a run that was stopped
        for system, row in found.items():
            scores.setdefault(system, {})[question] = float(row["answer"] == row["gold"])
        for name, voters in VOTES.items():
            if all(voter in found for voter in voters):
                scores.setdefault(name, {})[question] = float(_voted([found[one] for one in voters]))
    return scores


def _voted(rows: Sequence[Row]) -> bool:
    if not any(row["answer"] for row in rows):
        return False
    kind: Kind = "number" if rows[0]["part"] == "problems" else "choice"
    ballots = [Ballot(row["system"], row.get("text") or str(row["answer"]), row["answer"]) for row in rows]
    return vote(ballots, method="majority", kind=kind).answer == rows[0]["gold"]


def _paired(mine: Mapping[str, float], theirs: Mapping[str, float]) -> Interval:
    return difference(list(mine.values()), [theirs[question] for question in mine])


def _mean(scores: Iterable[float]) -> float:
    found = list(scores)
    return sum(found) / len(found)


def _lines(one: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| who | n | right % | to the better member |", "|---|---|---|---|"]
    for system, row in one.items():
        against = f"{_span(row['against'], sign='+')} ({row['rival']})" if row["against"] else ""
        lines.append(f"| {system} | {row['n']} | {_span(row['right'])} | {against} |")
    return lines


def _span(interval: Mapping[str, float], sign: str = "") -> str:
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _drawn(tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> bytes:
    """One panel a part: a point and its interval for each system, as a PNG."""
    import io  # noqa: PLC0415  (only where a picture is wanted)

    from matplotlib.figure import Figure  # noqa: PLC0415

    most = max(map(len, tables.values()))
    figure = Figure(figsize=(4.2 * len(tables), 0.32 * most + 1.2), layout="constrained")
    for axes, (name, one) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        for at, (system, row) in enumerate(reversed(one.items())):
            mean, low, high = (100 * row["right"][key] for key in ("mean", "low", "high"))
            colour = "#9aa1a8" if system in SINGLES else "#d9730d" if "vote" in system else "#0b6e99"
            axes.errorbar(mean, at, xerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=2, markersize=4)
        axes.set_yticks(range(len(one)), list(reversed(one)), fontsize=7)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("right %", fontsize=8)
        axes.grid(axis="x", alpha=0.3)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
