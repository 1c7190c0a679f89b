"""One engine for each model, shared by every agent that names it: one process, one copy of the weights, one batch."""

from __future__ import annotations

import asyncio
import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Literal

from eot.errors import MissingExtraError
from local_models.engine import Engine
from local_models.llama_cpp import LlamaCpp
from local_models.threads import default_threads
from local_models.weights import locate

Kind = Literal["auto", "llama.cpp", "transformers"]


class Engines:
    """Loads engines when they are first asked for and keeps them until closed.

    `threads`: processor threads of each engine, by default the physical cores that are idle. `parallel`: requests
    that one engine serves at once; more wait. `context`: tokens of each request, prompt and reply together.
    """

    def __init__(
        self,
        home: Path,
        *,
        threads: int | None = None,
        parallel: int = 4,
        context: int = 4096,
        engine: Kind = "auto",
    ) -> None:
        self._home, self._kind = home, engine
        self._threads, self._parallel, self._context = threads, parallel, context
        self._engines: dict[Path, asyncio.Task[Engine]] = {}

    async def get(self, name: str) -> Engine:
        """The engine of a catalogue name, a GGUF file or a safetensors folder; loaded once, however many ask.

        Raises:
            UnknownNameError: neither in the catalogue nor a path.
            WeightsError: not pulled yet, or it cannot be loaded.
            MissingExtraError: it needs torch, which is not installed.
        """
        path = (await asyncio.to_thread(locate, name, self._home)).resolve()
        if path not in self._engines:
            self._engines[path] = asyncio.create_task(self._load(path))
        task = self._engines[path]
        try:
            return await asyncio.shield(task)  # who gives up must not take the model from the others
        except BaseException:
            if task.done() and (task.cancelled() or task.exception()):
                self._engines.pop(path, None)  # the next one to ask tries again
            raise

    @cached_property
    def _threads_now(self) -> int:
        """Looked at once, when the first engine loads: later the others' own work would count as somebody else's."""
        return self._threads or default_threads()

    async def close(self) -> None:
        loading = list(self._engines.values())
        self._engines.clear()
        for engine in await asyncio.gather(*loading, return_exceptions=True):
            if not isinstance(engine, BaseException):
                await engine.close()

    async def _load(self, path: Path) -> Engine:
        if choose(self._kind, path) == "llama.cpp":
            return await LlamaCpp.load(path, threads=self._threads_now, parallel=self._parallel, context=self._context)
        from local_models.transformers_engine import TransformersEngine  # noqa: PLC0415  (torch takes seconds)

        return await TransformersEngine.load(
            path, home=self._home, threads=self._threads_now, parallel=self._parallel, context=self._context
        )


def choose(kind: Kind, path: Path) -> Literal["llama.cpp", "transformers"]:
    """Which engine runs this file: what was asked for, else transformers for folders and on GPUs, else llama.cpp.

    On two cores with 135M parameters (docs/results/performance.md) llama.cpp writes faster for one request and for
    three, torch for eight; a council seldom has eight, and torch converts the weights first. Which is faster on a GPU
    has not been measured; xllamacpp as installed from its wheel uses the processor.

    Raises:
        MissingExtraError: only transformers can run it, and torch is not installed.
    """
    if kind == "llama.cpp" and path.is_file():
        return kind
    if kind == "auto" and path.is_file() and not (_torch_is_here() and _gpu_is_here()):
        return "llama.cpp"
    if not _torch_is_here():
        raise MissingExtraError(f"Running {path.name} with transformers", "torch")
    return "transformers"


def _torch_is_here() -> bool:
    return all(importlib.util.find_spec(package) for package in ("torch", "transformers"))


def _gpu_is_here() -> bool:
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return False  # so that a machine without one never imports torch for this question
    import torch  # noqa: PLC0415  (takes seconds)

    return torch.cuda.is_available()
