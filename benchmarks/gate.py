"""Gates on recorded outcomes: `python benchmarks/gate.py TRAIN.json.gz TEST.json.gz`.

Rows are {"question", "scores": {AGENT: 0..1}}; needs the extra `embed` and the weights of the vote's embedding
model. The questions are embedded once, for all gates. Test questions that are in TRAIN are left out. The cost of asking
an agent is its size, in billions of parameters, as its name says it: what a token costs, not how many there were.
After the report: the first gate asked as a council asks it, one question after the other, with a share of the answers
that must be right, target shares or a capacity; `right` is any of whom it asks.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

# Beside this file lies one that is named like a package of ours: this folder must come last.
sys.path.append(sys.path.pop(0))

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from agents.gating import Balance, Examples, Gate, Recipe, fit
from agents.gating.examples import Floats
from api.gating import embed_questions, read_examples, said, show
from eot.settings import load
from evaluation.gating import judge
from evaluation.statistics import accuracy, difference

RECIPES = {f"kNN {count}": Recipe(neighbours=count) for count in (100, 5, 20, 50)} | {
    "linear": Recipe("linear"),
    "linear, noise 0.5": Recipe("linear", noise=0.5),
    "linear, balance 0.1": Recipe("linear", balance=0.1),
    "linear, balance 1": Recipe("linear", balance=1.0),
}

WANTED = {f"wanted {wanted}, 4 at most": wanted for wanted in (0.7, 0.8, 0.9)}
RATES, CAPACITIES = (0.01, 0.03), (2.0, 1.25)


def ways(count: int) -> dict[str, dict[str, Any]]:
    """How to ask, by name: the options of `Gate.pick`."""
    even = [1 / count] * count
    return (
        {f"k = {most}": {"most": most} for most in (1, 2, 3)}
        | {name: {"most": 4, "wanted": wanted} for name, wanted in WANTED.items()}
        | {f"k = 1, even shares, rate {rate}": {"most": 1, "balance": Balance(even, rate=rate)} for rate in RATES}
        | {f"k = 1, capacity {factor}": {"most": 1, "balance": Balance(even, 0.0, factor)} for factor in CAPACITIES}
    )


def asked_in_turn(gate: Gate, test: Examples, vectors: Floats, sizes: dict[str, float]) -> Table:
    """Each way over all questions: how many it asks, is any of them right, and the share of the busiest agent."""
    table = Table(box=box.SIMPLE_HEAD, title="asked one after the other", title_justify="left")
    for heading in ("way", "asked", "right %", "to the gate's k", "cost", "busiest"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    found: dict[str, list[float]] = {}
    for name, options in ways(len(test.agents)).items():
        picks = [gate.pick(vector, test.agents, **options).agents for vector in vectors]
        places = [[test.agents.index(agent) for agent in pick] for pick in picks]
        right = [float(row[who].max()) for row, who in zip(test.rewards, places, strict=True)]
        found[name] = right
        asked = float(np.mean([len(pick) for pick in picks]))
        beside = f"k = {max(1, min(3, round(asked)))}"
        one, gain = accuracy(right), difference(right, found[beside])
        table.add_row(
            name,
            f"{asked:.2f}",
            said(one),
            "" if name == beside else f"{beside}: {said(gain, '+')}",
            f"{np.mean([sum(sizes[agent] for agent in pick) for pick in picks]):.1f}",
            f"{100 * np.bincount(np.concatenate(places)).max() / len(places):.0f}%",
        )
    return table


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("train", type=Path)
parser.add_argument("test", type=Path)
parser.add_argument("--json", action="store_true", help="the report as one JSON object")
asked = parser.parse_args()

settings = load(None)
taught = read_examples(asked.train, None)
test = read_examples(asked.test, None).of(taught.agents)
vectors = embed_questions(taught.questions, settings)
unseen = embed_questions(test.questions, settings)
gates = {name: fit(taught, vectors, settings.embed.name, recipe) for name, recipe in RECIPES.items()}
sizes = {name: float(size[1]) for name in taught.agents if (size := re.search(r"(\d+)b\b", name))}
report = judge(gates, test, unseen, sizes)
if asked.json:
    print(json.dumps(report.model_dump()))
else:
    show(report, as_json=False)
    gate = next(iter(gates.values()))
    fair = ~gate.was_taught(test.questions) & ~np.isnan(test.rewards).any(axis=1)
    once, first = test.at(np.flatnonzero(fair)).each_once()
    Console(width=120).print(asked_in_turn(gate, once, unseen[np.flatnonzero(fair)[first]], sizes))
