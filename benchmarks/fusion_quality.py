"""What fusion is worth: `python benchmarks/fusion_quality.py QUESTIONS --out rows.jsonl`.

QUESTIONS is a folder with csqa.jsonl, aqua.jsonl, multiarith.jsonl, singleeq.jsonl and svamp.jsonl. Every answer is
kept in `--out`, and a run that was stopped goes on where it was; the report is made of all that is kept. Three parts:

letter      multiple choice answered in one token: each model reads a question once, and every method decides on that
likelihood  the same questions, answered by the option that the model finds likeliest; sets average over options
problems    word problems, four worked examples before them, at most 40 tokens

Greedy, bfloat16. Models must have been pulled; all of them together take 5 GB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Beside this file lies one that is named like a package of ours: this folder must come last.
sys.path.append(sys.path.pop(0))

import torch
from fusion_quality_report import report_of
from fusion_questions import drawn, letter_prompt, likelihood_prompt, problem_prompt
from prompt_memory import Remembering

from eot.fusion import FusionSettings
from eot.settings import Settings
from evaluation.datasets import Labelled
from local_models import Engine, Engines, Sampling
from local_models.fusion.logit import logit
from local_models.fusion.prob import prob
from local_models.prompts import text_ids
from scoring import read_answer

BIG, SMALL, SMOL, GEMMA = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m", "gemma-3-270m"
MODELS = {"qwen-1.5b": BIG, "qwen-0.5b": SMALL, "smollm2": SMOL, "gemma": GEMMA}
PAIRS = {"qwen-1.5b+0.5b": (BIG, SMALL), "qwen+smollm2": (SMALL, SMOL), "qwen+gemma": (SMALL, GEMMA)}
SAME: Mapping[str, Mapping[str, Any]] = {name: {"method": name} for name in ("logit", "prob", "power", "contrastive")}
ACROSS: Mapping[str, Mapping[str, Any]] = {
    "unite": {"method": "unite"},
    "gac": {"method": "gac"},
    "safe": {"method": "safe"},
    "deepen": {"method": "deepen"},
    "safe deepen": {"method": "safe", "inner": "deepen"},
}
RELEASED: Mapping[str, Mapping[str, Any]] = {"deepen adamw": {"method": "deepen", "inverse": "adamw"}}
LETTER_SETS, PROBLEM_SETS = (("csqa", 300), ("aqua", 126)), (("multiarith", 20), ("singleeq", 20), ("svamp", 20))
PARALLEL, MOST_TOKENS, SHOWN = 20, 40, 20
Systems = dict[str, Engine]


class Rows:
    """The answers in a file of lines, each kept as soon as it is there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.all = [json.loads(line) for line in lines]
        self._had = {(row["part"], row["id"], row["system"]) for row in self.all}

    def lack(self, part: str, one: Labelled, system: str) -> bool:
        return (part, one.question.id, system) not in self._had

    def add(self, part: str, dataset: str, one: Labelled, system: str, **found: Any) -> None:
        row = {"part": part, "dataset": dataset, "id": one.question.id, "system": system, "gold": one.gold, **found}
        self.all.append(row)
        self._had.add((part, one.question.id, system))
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


class House:
    """The models, each loaded once, and the sets of them."""

    def __init__(self, settings: Settings) -> None:
        self._engines = Engines(settings.home, threads=settings.threads, parallel=PARALLEL, context=2048)
        self.models: dict[str, Any] = {}

    async def systems(self, part: str) -> Systems:
        """Single models and every set by every method that fits it."""
        made: dict[str, Engine] = {}
        for pair, members in PAIRS.items():
            one_vocabulary = members == (BIG, SMALL)
            methods = SAME if one_vocabulary else {**ACROSS, **(RELEASED if part == "letter" else {})}
            for method, keys in methods.items():
                draft = {"draft": 1} if part == "letter" and keys["method"] == "safe" else {}
                settings = FusionSettings.model_validate({"members": members, **keys, **draft})
                engine = await self._engines.fuse(settings, f"{pair} {method}")
                made[f"{pair} {method}"] = engine
                self.models |= dict(zip(members, engine.members, strict=True))
        for model in self.models.values():
            if not isinstance(model.model, Remembering):
                model.model = Remembering(model.model)
        return {name: self.models[model] for name, model in MODELS.items()} | made

    def forget(self) -> None:
        for model in self.models.values():
            model.model.forget()

    async def close(self) -> None:
        await self._engines.close()


async def letters(house: House, questions: Sequence[tuple[str, Labelled]], rows: Rows) -> None:
    systems = await house.systems("letter")
    sampling = Sampling(0, max_tokens=1, top_logprobs=SHOWN)
    tell = _clock("letter", len(questions))
    for dataset, one in questions:
        for name, engine in systems.items():
            if rows.lack("letter", one, name):
                made = await engine.complete(letter_prompt(dataset, one), sampling)
                rows.add("letter", dataset, one, name, **_letter(made, one))
        house.forget()
        tell()


def _letter(made: Any, one: Labelled) -> dict[str, Any]:
    """The letter that was written, and the likeliest one where something else was."""
    told = made.logprobs[0]
    options = [(token.strip(), logprob) for token, logprob in told.top if token.strip() in one.question.choices]
    written = told.token.strip()
    return {
        "text": told.token,
        "answer": written if written in one.question.choices else None,
        "likeliest": options[0][0] if options else None,
        "top": [(token, round(logprob, 4)) for token, logprob in told.top[:5] if math.isfinite(logprob)],
    }


async def likelihoods(house: House, questions: Sequence[tuple[str, Labelled]], rows: Rows) -> None:
    await house.systems("likelihood")
    tell = _clock("likelihood", len(questions))
    for dataset, one in questions:
        if any(rows.lack("likelihood", one, name) for name in MODELS):
            scores = _option_scores(house, one)
            for name, found in scores.items():
                best = max(found, key=lambda letter: found[letter])
                rounded = {letter: round(score, 4) for letter, score in found.items()}
                if rows.lack("likelihood", one, name):
                    rows.add("likelihood", dataset, one, name, answer=best, scores=rounded)
        house.forget()
        tell()


@torch.inference_mode()
def _option_scores(house: House, one: Labelled) -> dict[str, dict[str, float]]:
    """The log of P(option | question), by each model and each pair's means over the options."""
    prompt, options = likelihood_prompt(one), one.question.choices
    scores: dict[str, torch.Tensor] = {}
    for name, model in MODELS.items():
        engine = house.models[model]
        endings = [engine.tokenizer.encode(f" {text}", add_special_tokens=False) for text in options.values()]
        rows = engine.model.endings(text_ids(engine.tokenizer, prompt), endings)
        found = [
            row.float().log_softmax(-1)[range(len(ids)), ids].sum() for row, ids in zip(rows, endings, strict=True)
        ]
        scores[name] = torch.stack(found)  # C
    short = {model: name for name, model in MODELS.items()}
    for pair, members in PAIRS.items():
        logprobs = torch.stack([scores[short[member]].log_softmax(-1) for member in members])[:, None]  # N 1 C
        for blend in (logit, prob):
            scores[f"{pair} {blend.__name__}"] = blend(logprobs, torch.full((len(members), 1), 1 / len(members)))[0]
    return {name: dict(zip(options, found.tolist(), strict=True)) for name, found in scores.items()}


async def problems(house: House, questions: Sequence[tuple[str, Labelled]], rows: Rows) -> None:
    systems = await house.systems("problems")
    sampling = Sampling(0, max_tokens=MOST_TOKENS, stop=("\n",))
    tell = _clock("problems", len(systems))
    for name, engine in systems.items():
        wanted = [(dataset, one) for dataset, one in questions if rows.lack("problems", one, name)]
        made = await asyncio.gather(*(engine.complete(problem_prompt(one), sampling) for _, one in wanted))
        for (dataset, one), reply in zip(wanted, made, strict=True):
            found = {"text": reply.text, "answer": read_answer(reply.text, "number"), "tokens": reply.output_tokens}
            rows.add("problems", dataset, one, name, **found)
        tell()


def _clock(part: str, steps: int) -> Callable[[], None]:
    """Say after each step how far it is, and how long the rest will take."""
    began, done = time.monotonic(), 0

    def tell() -> None:
        nonlocal done
        done += 1
        spent = time.monotonic() - began
        left = spent / done * (steps - done)
        print(f"{part} {done}/{steps}, {spent / 60:.1f} min, {left / 60:.1f} min to go", file=sys.stderr, flush=True)

    return tell


async def run(asked: argparse.Namespace, rows: Rows) -> None:
    house = House(Settings())
    choices, sums = (drawn(asked.questions, sets, asked.limit) for sets in (LETTER_SETS, PROBLEM_SETS))
    parts: Mapping[str, Callable[[], Any]] = {
        "letter": lambda: letters(house, choices, rows),
        "likelihood": lambda: likelihoods(house, [one for one in choices if one[0] == "csqa"], rows),
        "problems": lambda: problems(house, sums, rows),
    }
    try:
        for part in asked.parts:
            await parts[part]()
    finally:
        await house.close()


def main(words: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path, help="the folder with the question files")
    parser.add_argument("--out", type=Path, required=True, help="where every answer is kept")
    parser.add_argument("--parts", nargs="*", choices=["letter", "likelihood", "problems"], default=[])
    parser.add_argument("--limit", type=int, help="at most so many questions of each set")
    parser.add_argument("--plot", type=Path, help="write a picture of the accuracies here, as PNG")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    asked = parser.parse_args(None if words is None else list(words))
    rows = Rows(asked.out)
    asyncio.run(run(asked, rows))
    report_of(rows.all, asked.plot, as_json=asked.json)


if __name__ == "__main__":
    main()
