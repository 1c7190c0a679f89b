"""Does the exchange help? `eot eval` on word problems and CommonsenseQA: three local seats, each topology and baseline.

Both sets are asked in one run, question by question in turns, so that a batch is never empty; then each set is reported
alone, from the answers that are there. What was answered is kept: the same command goes on where it was stopped.
`exchange.toml` beside this file has the agents and the councils. Prints a table a set, and writes `OUT/SET/` with the
report, its page and its plots.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# A file beside this one is named like the package `evaluation`: this folder must come last.
sys.path.append(sys.path.pop(0))

from eot.settings import load
from evaluation import Report
from evaluation.summary import Comparison

CONFIG = Path(__file__).with_name("exchange.toml")
AGAINST = ("sc", "sc-tokens", "self-moa", "moa")


def evaluate(questions: Path, councils: Sequence[str], out: Path, at_once: int) -> None:
    """`eot eval`; a log line a minute.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    how = ("--config", str(CONFIG), "--councils", ",".join(councils), "--at-once", str(at_once), "--json")
    with (out.parent / f"{out.name}.json").open("w") as told:
        words = [Path(sys.executable).with_name("eot"), "eval", str(questions), "--out", str(out), *how]
        subprocess.run(words, stdout=told, check=True)


def interleaved(files: Sequence[Path], count: int) -> list[str]:
    """The first rows of each file, in turns."""
    rows = [file.read_text(encoding="utf-8").splitlines()[:count] for file in files]
    return [line for together in zip(*rows, strict=True) for line in together]


def table(report: Report, councils: Sequence[str]) -> list[str]:
    """A line a council: how often it is right, what that costs, what the exchange did, and the paired differences."""
    compared = {(one.system, one.baseline): one for one in report.comparisons}
    exchanged = {one.council: one for one in report.exchanges}
    heads = "council|right %|tokens|mended, broken|to round 0|to SC, equal calls|to SC, equal tokens|to Self-MoA|to MoA"
    lines = ["| " + heads.replace("|", " | ") + " |", "|---" * 9 + "|"]
    for name in councils:
        score, one = report.score(f"council:{name}"), exchanged[name]
        paired = (compared.get((f"council:{name}", f"{kind}:{name}")) for kind in ("round0", *AGAINST))
        cells = [
            name,
            _share(report, f"council:{name}"),
            f"{score.tokens:,.0f}",
            f"{len(one.mended)}, {len(one.broken)}",
        ]
        lines.append("| " + " | ".join([*cells, *map(_difference, paired)]) + " |")
    return lines


def others(report: Report) -> list[str]:
    """A line for each system that no council stands beside."""
    lines = ["| system | right % | calls | tokens |", "|---|---|---|---|"]
    for score in report.scores:
        if not score.system.startswith("council:"):
            share = _share(report, score.system)
            lines.append(f"| {score.system} | {share} | {score.calls:.1f} | {score.tokens:,.0f} |")
    return lines


def _share(report: Report, system: str) -> str:
    found = report.score(system).accuracy
    return f"{100 * found.mean:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]" if found else "-"


def _difference(one: Comparison | None) -> str:
    if one is None:
        return "-"
    mean, low, high = (100 * part for part in (one.difference.mean, one.difference.low, one.difference.high))
    mark = "**" if low > 0 or high < 0 else ""
    return f"{mark}{mean:+.1f} [{low:+.1f}, {high:+.1f}]{mark}, p {one.test.p_value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder of questions, a file a set")
    parser.add_argument("--out", type=Path, required=True, help="kept between runs")
    parser.add_argument("--sets", nargs="+", default=["csqa", "svamp"], metavar="SET")
    parser.add_argument("--questions", type=int, default=60, help="of each set, its first")
    parser.add_argument("--at-once", type=int, default=24)
    asked = parser.parse_args()
    councils = list(load(CONFIG).councils)
    asked.out.mkdir(parents=True, exist_ok=True)
    every = interleaved([asked.data / f"{name}.jsonl" for name in asked.sets], asked.questions)
    whole = asked.out / "all.jsonl"
    whole.write_text("\n".join(every) + "\n", encoding="utf-8")
    evaluate(whole, councils, asked.out / "all", asked.at_once)
    rows = (asked.out / "all" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    for name in asked.sets:
        report(asked.out / name, [line for line in every if _of(json.loads(line), name, "id")],
               [line for line in rows if _of(json.loads(line), name, "question")], councils)  # fmt: skip


def report(out: Path, questions: Sequence[str], rows: Sequence[str], councils: Sequence[str]) -> None:
    """The report of one set, from the answers of the whole run."""
    out.mkdir(exist_ok=True)
    file = out.with_suffix(".jsonl")
    file.write_text("\n".join(questions) + "\n", encoding="utf-8")
    (out / "results.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    evaluate(file, councils, out, 1)
    found = Report.model_validate_json((out / "report.json").read_text(encoding="utf-8"))
    print(f"\n## {out.name}: {len(questions)} questions\n", *table(found, councils), "", *others(found), sep="\n")


def _of(row: Mapping[str, object], name: str, key: str) -> bool:
    return str(row[key]).startswith(f"{name}-")


if __name__ == "__main__":
    main()
