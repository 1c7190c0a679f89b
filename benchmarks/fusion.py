"""What fusion costs: one vocabulary beside its serial bound, CoS beside serial, `safe` beside its drafter, DeePEn.

Bare single-model generation runs in the same process, in turns with what it is compared with; medians of milliseconds a
token, prompts read within the time. Every model must have been pulled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from report import arguments, report

from eot.fusion import FusionSettings
from eot.settings import Settings
from local_models import Engine, Engines, Sampling
from local_models.fusion.across import AcrossVocabularies
from local_models.fusion.ballot import Method
from local_models.fusion.deepen import Deepen, adamw
from local_models.fusion.engine import FusionEngine
from local_models.fusion.relative import Dense
from local_models.fusion.vocabulary import Vocabulary

PROMPTS = (
    "Question: A farmer has 12 cows and buys 7 more. How many cows are there?\nAnswer:",
    "The three primary colours are",
    "def is_prime(n):\n",
    "Question: Which of these is a fruit: stone, apple, chair?\nAnswer:",
)
RELEASED_ANCHORS = 1000


async def ms_per_token(engine: Engine, prompt: str, tokens: int) -> float:
    made = await engine.complete(prompt, Sampling(0, max_tokens=tokens))
    return 1000 * made.seconds / max(1, made.output_tokens)


async def in_turns(engines: Mapping[str, Engine], tokens: int, repeats: int) -> dict[str, float]:
    """Median over prompts and repeats of each engine's milliseconds a token; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        await ms_per_token(engine, PROMPTS[0], 2)
    for _ in range(repeats):
        for prompt in PROMPTS:
            for name, engine in engines.items():
                found[name].append(await ms_per_token(engine, prompt, tokens))
    return {name: median(times) for name, times in found.items()}


async def fused(engines: Engines, members: Sequence[str], **keys: object) -> FusionEngine:
    return await engines.fuse(FusionSettings.model_validate({"members": tuple(members), **keys}), "+".join(members))


async def same(engines: Engines, members: Sequence[str], draft: int, tokens: int, repeats: int) -> dict[str, float]:
    serial = await fused(engines, members, method="logit")
    ahead = await fused(engines, members, method="logit", draft=draft)
    alone: dict[str, Engine] = {member.name: member for member in serial.members}
    times = await in_turns({**alone, "serial": serial, "cos": ahead}, tokens, repeats)
    bound = sum(times[name] for name in alone)
    return {
        "same_vocab_over_bound": bound / times["serial"],
        "cos_over_serial": times["serial"] / times["cos"],
        "serial_ms_per_token": times["serial"],
        "cos_ms_per_token": times["cos"],
    }


async def safe(engines: Engines, members: Sequence[str], tokens: int, repeats: int) -> dict[str, float]:
    drafted = await fused(engines, members, method="safe")
    every = await fused(engines, members, method="unite")
    drafter = drafted.members[0]
    times = await in_turns({"drafter": drafter, "safe": drafted, "unite": every}, tokens, repeats)
    return {
        "safe_over_drafter": times["safe"] / times["drafter"],
        "unite_over_drafter": times["unite"] / times["drafter"],
        "drafter_ms_per_token": times["drafter"],
        "safe_ms_per_token": times["safe"],
    }


async def deepen(engines: Engines, members: Sequence[str], tokens: int) -> dict[str, float]:
    """DeePEn's own part, on the rows that a run of `unite` passes: rows of new tokens are made within the time."""
    engine = await fused(engines, members, method="unite")
    rows = await rows_of(engine, tokens)
    words = [Vocabulary(member.tokenizer, member.ends, member.name) for member in engine.members]
    tables = [member.model.get_input_embeddings().weight.detach() for member in engine.members]
    settings = FusionSettings(members=tuple(members), method="deepen")
    held = [(one.ids, one.surfaces) for one in words]  # which every method has, and makes when first asked
    shares, before = settings.shares, resident_mb()
    with torch.inference_mode():
        began = time.perf_counter()
        method = Deepen(words, shares, settings, tables)
        made = time.perf_counter() - began
        first = [timed(method, row) for row in rows]
        mb = resident_mb() - before
        del held
        again = [timed(method, row) for row in rows]
        released = released_ms(rows[0])
    sizes = [len(row) for row in rows[0]]
    return {
        "deepen_ms_per_token": sum(first) / len(first),
        "deepen_warm_ms_per_token": sum(again) / len(again),
        "deepen_made_s": made,
        "deepen_mb": mb,
        "deepen_common_tokens": engine.common,
        f"released_ms_per_token_{RELEASED_ANCHORS}_anchors": released,
        f"released_mb_{RELEASED_ANCHORS}_anchors": sum(sizes) * RELEASED_ANCHORS * 4 / 1e6,
        "released_mb_all_anchors": sum(sizes) * engine.common * 4 / 1e6,
    }


async def rows_of(engine: FusionEngine, tokens: int) -> list[list[torch.Tensor]]:
    """The members' rows at each token of a fused run."""
    seen: list[list[torch.Tensor]] = []
    decoding = engine.decoding
    assert isinstance(decoding, AcrossVocabularies)
    inner = decoding.method

    class Noting:
        """The method itself, and a note of what it was given."""

        def is_alone(self, main: torch.Tensor) -> bool:
            return inner.is_alone(main)

        def __call__(self, rows: Sequence[torch.Tensor]) -> object:
            seen.append(list(rows))
            return inner(rows)

    decoding.method = Noting()  # type: ignore[assignment]
    for prompt in PROMPTS:
        await engine.complete(prompt, Sampling(0, max_tokens=tokens))
    decoding.method = inner
    return seen


def timed(method: Method, rows: Sequence[torch.Tensor]) -> float:
    began = time.perf_counter()
    method(rows)
    return 1000 * (time.perf_counter() - began)


def released_ms(rows: Sequence[torch.Tensor]) -> float:
    """The released method's part of one token, from the formula: dense rows, one pass each, five steps of AdamW."""
    matrices = [torch.full((len(row), RELEASED_ANCHORS), 1 / RELEASED_ANCHORS) for row in rows]
    began = time.perf_counter()
    target = torch.stack([row.exp() @ matrix for row, matrix in zip(rows, matrices, strict=True)]).mean(0)
    adamw(rows[0].clamp(min=-30), Dense(matrices[0]), target, 5, 0.15)
    return 1000 * (time.perf_counter() - began)


def resident_mb() -> float:
    """Memory of this process, without the models' files that are mapped into it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


async def measure(
    parts: Sequence[str], pairs: Mapping[str, Sequence[str]], draft: int, tokens: int, repeats: int
) -> dict[str, float]:
    settings = Settings()
    figures: dict[str, float] = {}
    for part in parts:
        engines = Engines(settings.home, threads=settings.threads, parallel=1, context=512)
        try:
            if part == "same":
                figures |= await same(engines, pairs[part], draft, tokens, repeats)
            elif part == "safe":
                figures |= await safe(engines, pairs[part], tokens, repeats)
            else:
                figures |= await deepen(engines, pairs[part], tokens)
        finally:
            await engines.close()
        print(f"{part} done: {figures}", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--parts", nargs="+", choices=["same", "safe", "deepen"], default=["same", "safe", "deepen"])
    parser.add_argument("--same", nargs=2, default=["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"], metavar="MODEL")
    parser.add_argument("--safe", nargs=2, default=["qwen2.5-coder-0.5b", "smollm2-135m"], metavar="MODEL")
    parser.add_argument("--deepen", nargs=2, default=["smollm2-135m", "gemma-3-270m"], metavar="MODEL")
    parser.add_argument("--draft", type=int, default=4, help="tokens that the first model drafts for CoS")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    pairs = {"same": asked.same, "safe": asked.safe, "deepen": asked.deepen}
    figures = asyncio.run(measure(asked.parts, pairs, asked.draft, asked.tokens, asked.repeats))
    notes = [f"{part}: {' + '.join(pairs[part])}" for part in asked.parts]
    report("fusion", figures, [*notes, f"{asked.tokens} tokens a reply, {len(PROMPTS)} prompts"], as_json=asked.json)


if __name__ == "__main__":
    main()
