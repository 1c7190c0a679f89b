"""Gates on recorded outcomes: `python benchmarks/gate.py TRAIN.json.gz TEST.json.gz`.

Rows are {"question", "scores": {AGENT: 0..1}}; needs the extra `embed` and the weights of the vote's embedding
model. The questions are embedded once, for all gates. Test questions that are in TRAIN are left out. The cost of asking
an agent is its size, in billions of parameters, as its name says it: what a token costs, not how many there were.
"""

import argparse
import json
import re
import sys
from pathlib import Path

# Beside this file lies one that is named like a package of ours: this folder must come last.
sys.path.append(sys.path.pop(0))

from agents.gating import Recipe, fit
from api.gating import embed_questions, read_examples, show
from eot.settings import load
from evaluation.gating import judge

RECIPES = {f"kNN {count}": Recipe(neighbours=count) for count in (100, 5, 20, 50)} | {
    "linear": Recipe("linear"),
    "linear, noise 0.5": Recipe("linear", noise=0.5),
    "linear, balance 0.1": Recipe("linear", balance=0.1),
    "linear, balance 1": Recipe("linear", balance=1.0),
}

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
gates = {name: fit(taught, vectors, settings.embed.model, recipe) for name, recipe in RECIPES.items()}
sizes = {name: float(size[1]) for name in taught.agents if (size := re.search(r"(\d+)b\b", name))}
report = judge(gates, test, unseen, sizes)
if asked.json:
    print(json.dumps(report.model_dump()))
else:
    show(report, as_json=False)
