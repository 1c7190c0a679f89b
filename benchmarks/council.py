"""Which three local agents make the best council: each candidate on the same questions, first answers shared.

    python benchmarks/council.py QUESTIONS.jsonl ... --limit 12

Every council is run as the product runs it. Answers of round 0 are asked once and recalled by every council that
seats the same agent; a killed run goes on where it was. A row is {"id", "text", "kind", "choices"?, "answer"}.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

from report import arguments, report

from api.compose import House
from api.defaults import with_defaults
from eot.settings import AgentSettings, CouncilSettings, Settings, load
from eot.types import Question, Result
from scoring import canonical, same
from topologies import run

BIG, SMALL, TINY = "local/qwen2.5-coder-1.5b", "local/qwen2.5-coder-0.5b", "local/smollm2-135m"
AGENTS = {"coder": BIG, "second": BIG, "small": SMALL, "other": SMALL, "tiny": TINY}
COUNCILS = {
    "1.5B + 1.5B + 0.5B": ("coder", "second", "small"),
    "1.5B + 0.5B + 0.5B": ("coder", "small", "other"),
    "1.5B + 0.5B + 135M": ("coder", "small", "tiny"),
    "0.5B + 0.5B + 135M": ("small", "other", "tiny"),
}
AT_ONCE = 1


def settings() -> Settings:
    agents = {name: AgentSettings(model=model, deadline=3600) for name, model in AGENTS.items()}
    return with_defaults(load().model_copy(update={"agents": agents}))


def questions(files: Iterable[Path], limit: int) -> list[tuple[Question, str]]:
    """The first `limit` rows of each file, each with its gold answer."""
    found = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines()[:limit]:
            row = json.loads(line)
            gold = row.pop("answer")
            question = Question(**{key: row[key] for key in ("id", "text", "kind", "choices") if key in row})
            found.append((question, canonical(gold, question.kind, question.choices) or gold))
    return found


def right(question: Question, answer: str | None, gold: str) -> bool:
    return answer is not None and same(answer, gold, question.kind or "open")


async def play(house: House, seats: tuple[str, ...], asked: list[tuple[Question, str]], rounds: int) -> list[Result]:
    """One council on every question, a few at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(question: Question) -> Result:
        async with places:
            council = await house.council(CouncilSettings(agents=seats, rounds=rounds))
            return await run(council, question, run_id=f"council-{question.id}")

    return await asyncio.gather(*(one(question) for question, _ in asked))


def score(name: str, results: list[Result], asked: list[tuple[Question, str]]) -> dict[str, float]:
    """Percent right after the exchange, before it, and each member alone; tokens and seconds of work for a question."""
    golds = [gold for _, gold in asked]
    share = 100 / len(asked)
    after = sum(right(r.question, r.verdict.answer, gold) for r, gold in zip(results, golds, strict=True))
    before = sum(
        right(r.question, r.verdict.shadow.answer if r.verdict.shadow else None, gold)
        for r, gold in zip(results, golds, strict=True)
    )
    figures = {
        f"{name}: right %": after * share,
        f"{name}: round 0 vote right %": before * share,
        f"{name}: exchanged %": sum(len(r.exchange.rounds) > 1 for r in results) * share,
        f"{name}: tokens a question": sum(r.exchange.usage.tokens for r in results) / len(results),
        f"{name}: tokens written a question": sum(r.exchange.usage.output_tokens for r in results) / len(results),
        f"{name}: agent seconds a question": sum(t.seconds for r in results for t in r.exchange.thoughts)
        / len(results),
    }
    for seat in results[0].exchange.seats:
        said = [r.exchange.first[seat].answer if seat in r.exchange.first else None for r in results]
        good = sum(right(q, answer, gold) for (q, gold), answer in zip(asked, said, strict=True))
        figures[f"  {seat} alone right %"] = good * share
    return figures


async def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=12, help="questions of each file")
    parser.add_argument("--rounds", type=int, default=2, help="exchange rounds at most; 0 compares the votes alone")
    options = parser.parse_args()
    asked = questions(options.files, options.limit)
    house, figures = House(settings()), {"questions": float(len(asked))}
    for name, seats in COUNCILS.items():
        figures |= score(name, await play(house, seats, asked, options.rounds), asked)
        if not options.json:
            print(f"{name}: {figures[f'{name}: right %']:.0f} % right", flush=True)
    await house.close()
    report("Three local agents", figures, as_json=options.json)


if __name__ == "__main__":
    asyncio.run(main())
