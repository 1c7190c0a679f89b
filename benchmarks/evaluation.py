"""What an evaluation costs beside its models: CPU milliseconds a question, with everything kept on disk.

10,000 questions on which three scripted agents disagree, so that an exchange round is played, beside chain of thought,
self-consistency at equal calls and the vote over round 0: 13 calls a question through the product's own wrappers, 11
of them new, four rows written and graded. What the scripted agents themselves cost in 11 bare calls is taken off and
shown; resuming and the report are timed apart.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

# This file is named like the package it measures: its folder must come last, or it would import itself.
sys.path.append(sys.path.pop(0))

from report import arguments, report

from agents import ScriptedAgent
from api.compose import House
from eot.settings import AgentSettings, CouncilSettings, Settings
from eot.types import Question
from evaluation import Entrant, Labelled, Results, System, Trial, run_systems, summarise, systems_of
from evaluation.alone import sample_prompt
from evaluation.runner import fingerprint

SEATS = CouncilSettings(agents=("a", "b", "c"), rounds=1)
BASELINES = ("cot", "sc")
NEW_CALLS = 11  # two rounds of three, and five more samples of the strongest
WARM_UP = 20  # the first questions import what the loop and the vote need
LINE = "First I count the eggs, then I take away those that were eaten, then I multiply. The answer is {}."


def settings(home: Path) -> Settings:
    """Three agents that agree in the exchange round and not before, so that a round is played."""
    scripts = {"a": (4, 4), "b": (5, 4), "c": (6, 6)}
    agents = {
        name: AgentSettings(model="scripted", script=tuple(LINE.format(answer) for answer in answers))
        for name, answers in scripts.items()
    }
    return Settings(home=home, agents=agents)


async def cpu(questions: list[Labelled], systems: list[System], results: Results, trial: Trial) -> tuple[float, float]:
    """CPU and wall seconds of a run over all questions."""
    start, started = time.process_time(), time.perf_counter()
    await run_systems(questions, systems, results, trial)
    return time.process_time() - start, time.perf_counter() - started


async def models(count: int, house: House) -> float:
    """CPU seconds of the bare agents: as many calls as a run newly makes, streamed to one who does not listen."""
    agent = ScriptedAgent("a", house.settings.agents["a"].script)
    prompt = sample_prompt(Question(text="How many eggs are in 1 nests?", kind="number", id="q1"), "a", Trial(), 0)
    start = time.process_time()
    for _ in range(NEW_CALLS * count):
        await agent.ask(prompt, lambda _: None)
    return time.process_time() - start


async def measure(count: int, home: Path) -> dict[str, float]:
    house, trial = House(settings(home)), Trial()
    entrant = Entrant("council", lambda _: house.council(SEATS), (await house.council(SEATS)).agents)
    systems = systems_of([entrant], BASELINES, trial)
    questions = [
        Labelled(Question(text=f"How many eggs are in {at} nests?", kind="number", id=f"q{at}"), "4", at)
        for at in range(count)
    ]
    with Results(home / "results.jsonl") as results:
        first, wall = await cpu(questions, systems, results, trial)
        again, _ = await cpu(questions, systems, results, trial)
        start = time.process_time()
        found = (results.find(s.name, q.question.id, fingerprint(s, q, trial)) for s in systems for q in questions)
        summary = summarise(row for row in found if row)
        summing = time.process_time() - start
    bare = await models(count, house)
    await house.close()
    if [score.answered for score in summary.scores] != [count] * len(systems):
        raise SystemExit(f"not every question was answered: {summary.notes}")
    return {
        "cpu_ms_per_question": 1000 * (first - bare) / count,
        "models_cpu_ms_per_question": 1000 * bare / count,
        "wall_ms_per_question": 1000 * wall / count,
        "resumed_cpu_ms_per_question": 1000 * again / count,
        "report_cpu_ms_per_question": 1000 * summing / count,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "questions": float(count),
    }


if __name__ == "__main__":
    parser = arguments(__doc__ or "")
    parser.add_argument("--questions", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(WARM_UP, Path(folder) / "warm-up"))
        figures = asyncio.run(measure(options.questions, Path(folder) / "measured"))
    report("An evaluation beside its models", figures, as_json=options.json)
