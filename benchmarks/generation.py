"""Tokens a second at 1, 3 and 8 requests: our engine beside xllamacpp used bare, in one process, in turns, medians."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import xllamacpp
from report import arguments, report

from eot.settings import Settings
from local_models import Engine, Engines, Sampling, locate
from local_models.llama_cpp import LlamaCpp
from local_models.threads import default_threads

REQUESTS = (1, 3, 8)
CONTEXT = 512


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Tell a long story about {number} foxes that learn to sail the sea."}]


def bare_server(path: Path, threads: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx = max(REQUESTS), CONTEXT * max(REQUESTS)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity = -1
    return xllamacpp.Server(params)


def bare_rate(server: Any, requests: range, tokens: int) -> float:
    """Tokens a second of plain calls in threads, with the same sampling."""

    def one(number: int) -> int:
        asked = {"messages": question(number), "max_tokens": tokens, "temperature": 0}
        return int(server.handle_chat_completions(asked)["usage"]["completion_tokens"])

    with ThreadPoolExecutor(len(requests)) as pool:
        began = time.perf_counter()
        written = sum(pool.map(one, requests))
    return written / (time.perf_counter() - began)


async def our_rate(engine: Engine, requests: range, tokens: int) -> float:
    how = Sampling(temperature=0, max_tokens=tokens)
    began = time.perf_counter()
    said = await asyncio.gather(*(engine.generate(question(number), how) for number in requests))
    return sum(one.output_tokens for one in said) / (time.perf_counter() - began)


async def prefill_rate(engine: Engine) -> float:
    words = " ".join(f"word{number}" for number in range(90))
    said = await engine.generate([{"role": "user", "content": words}], Sampling(temperature=0, max_tokens=1))
    return said.input_tokens / said.seconds


async def measure(name: str, tokens: int, repeats: int) -> dict[str, float]:
    home, threads = Settings().home, default_threads()
    path = locate(name, home)
    ours = await LlamaCpp.load(path, threads=threads, parallel=max(REQUESTS), context=CONTEXT)
    bare = await asyncio.to_thread(bare_server, path, threads)
    figures: dict[str, float] = {"prefill_tokens_per_s": await prefill_rate(ours)}
    for requests in REQUESTS:
        rates: list[tuple[float, float]] = []
        for turn in range(repeats + 1):
            asked = range(100 * turn, 100 * turn + requests)  # new questions: no turn finds another one's in its cache
            pair = await asyncio.to_thread(bare_rate, bare, asked, tokens), await our_rate(ours, asked, tokens)
            rates += [pair] if turn else []  # the first turn warms both up
        beside, own = (median(column) for column in zip(*rates, strict=True))
        figures |= {
            f"ratio_{requests}": own / beside,
            f"tokens_per_s_{requests}": own,
            f"bare_tokens_per_s_{requests}": beside,
        }
    await ours.close()
    return figures | await torch_rates(name, home, tokens)


async def torch_rates(name: str, home: Path, tokens: int) -> dict[str, float]:
    if not importlib.util.find_spec("torch"):
        return {}
    engines = Engines(home, parallel=max(REQUESTS), context=CONTEXT, engine="transformers")
    engine = await engines.get(name)
    await our_rate(engine, range(1), 2)
    rates = {f"torch_tokens_per_s_{requests}": await our_rate(engine, range(requests), tokens) for requests in REQUESTS}
    await engines.close()
    return rates


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    figures = asyncio.run(measure(asked.model, asked.tokens, asked.repeats))
    notes = (f"{asked.model}, {asked.tokens} tokens written a request, prompts read within the time",)
    report("generation", figures, notes, as_json=asked.json)


if __name__ == "__main__":
    main()
