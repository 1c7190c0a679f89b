"""One engine for each model, shared by every agent that names it: one process, one copy of the weights, one batch."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eot.errors import InputError, MissingExtraError, UnknownNameError
from eot.fusion import FusionSettings
from local_models.catalogue import CATALOGUE
from local_models.digests import digest_of
from local_models.engine import Engine
from local_models.llama_cpp import LlamaCpp
from local_models.moe.files import refuse_dense
from local_models.once import Once
from local_models.threads import default_threads
from local_models.weights import locate

if TYPE_CHECKING:
    from local_models.fusion import FusionEngine
    from local_models.transformers_engine import TransformersEngine

Kind = Literal["auto", "llama.cpp", "transformers"]


class Engines:
    """Loads engines when they are first asked for and keeps them until closed.

    `threads`: processor threads of each engine, by default the physical cores that are idle. `parallel`: requests
    that one engine serves at once; more wait. `context`: tokens of each request, prompt and reply together.
    `fusions`: the sets that can be asked for by name. `mixtures`: the mixtures of experts, and which model each is.
    """

    def __init__(
        self,
        home: Path,
        *,
        threads: int | None = None,
        parallel: int = 4,
        context: int = 4096,
        engine: Kind = "auto",
        fusions: Mapping[str, FusionSettings] | None = None,
        mixtures: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self._kind = home, engine
        self._threads, self._parallel, self._context = threads, parallel, context
        self._fusions, self._mixtures = fusions or {}, mixtures or {}
        self._engines: Once[LlamaCpp | TransformersEngine] = Once()
        self._fused: Once[FusionEngine] = Once()
        self._kept: set[Path] = set()
        """Torch models that somebody counts on until the end: `give_up` leaves them alone."""
        self._members: dict[str, Path] = {}
        self._shown: Path | None = None
        self._showing = asyncio.Lock()

    async def get(self, name: str) -> Engine:
        """The engine of a catalogue name, a GGUF file or a safetensors folder; loaded once, however many ask.

        Raises:
            UnknownNameError: neither in the catalogue nor a path.
            WeightsError: not pulled yet, or it cannot be loaded.
            MissingExtraError: it needs torch, which is not installed.
        """
        path = await self._path(name)
        if choose(self._kind, path) == "transformers":
            self._kept.add(path)
            return await self._torch(name, path)
        return await self._engines.get((path, "llama.cpp"), lambda: self._load_llama(path))

    def fusion(self, name: str) -> FusionSettings:
        """The settings of a fused set.

        Raises:
            UnknownNameError: there is no such table.
        """
        if name not in self._fusions:
            raise UnknownNameError("fusion", name, self._fusions)
        return self._fusions[name]

    async def fused(self, name: str) -> FusionEngine:
        """The engine of a fused set; its members share their weights with whoever else runs them on torch.

        Raises:
            UnknownNameError: there is no such table, or no such member.
            InputError: two members are one model, or the method cannot fuse these.
            WeightsError: a member was not pulled yet, or cannot be loaded.
            MissingExtraError: torch is not installed.
        """
        return await self.fuse(self.fusion(name), name)

    async def fuse(self, settings: FusionSettings, name: str) -> FusionEngine:
        """As `fused`, with settings from elsewhere."""

        async def load() -> FusionEngine:
            self._kept.update([await self._path(member) for member in settings.members])
            return await self.make_set(settings, name)

        return await self._fused.get(settings, load)

    def mixture_model(self, name: str) -> str:
        """The name or the path of the model that a mixture is.

        Raises:
            UnknownNameError: there is no such table.
        """
        if name not in self._mixtures:
            raise UnknownNameError("mixture of experts", name, self._mixtures)
        return self._mixtures[name]

    async def mixture(self, name: str) -> TransformersEngine:
        """The engine of a mixture of experts, shared with whoever else runs that model on torch.

        Raises:
            UnknownNameError: there is no such table, or no such model.
            InputError: the model is no mixture of a kind that is known here.
            WeightsError: it cannot be loaded.
            MissingExtraError: torch is not installed.
        """
        model = self.mixture_model(name)
        path = await self._mixture_path(model)
        alone = path not in self._kept
        self._kept.add(path)
        try:
            return await self._routed(model, path)
        except InputError:
            if alone:
                self._kept.discard(path)
                await self._free(path)
            raise

    @asynccontextmanager
    async def shown(self, model: str) -> AsyncIterator[TransformersEngine]:
        """As `mixture`, of a model by its name here or its path, for one look at it.

        Of those that nobody else counts on only the last one stays loaded, and one look at a time is taken.
        """
        path = await self._mixture_path(model)
        async with self._showing:
            if self._shown not in {None, path}:
                left, self._shown = self._shown, None
                await self._free(left)
            self._shown = path
            try:
                engine = await self._routed(model, path)
            except InputError:
                self._shown = None
                await self._free(path)
                raise
            yield engine

    async def _mixture_path(self, model: str) -> Path:
        if not _torch_is_here():
            raise MissingExtraError("A mixture of experts", "torch")
        path = await self._path(model)
        await asyncio.to_thread(refuse_dense, path)
        return path

    async def _routed(self, model: str, path: Path) -> TransformersEngine:
        engine = await self._torch(model, path)
        from local_models.moe.routing import routers_of  # noqa: PLC0415  (torch takes seconds)

        routers_of(engine.model)
        return engine

    async def make_set(self, settings: FusionSettings, name: str) -> FusionEngine:
        """As `fuse`, anew and kept by nobody: the caller closes it, and gives up the models that nobody else needs."""
        if not _torch_is_here():
            raise MissingExtraError("Fusing models", "torch")
        paths = [await self._path(member) for member in settings.members]
        await asyncio.to_thread(_refuse_twins, settings.members, paths)
        self._members.update(zip(settings.members, paths, strict=True))
        members = [await self._torch(*named) for named in zip(settings.members, paths, strict=True)]
        from local_models.fusion import FusionEngine  # noqa: PLC0415  (torch takes seconds)

        return await asyncio.to_thread(FusionEngine, members, settings, name, parallel=self._parallel)

    async def give_up(self, name: str) -> None:
        """Free a model that only sets of `make_set` used, if it is loaded and nobody counts on it."""
        await self._free(self._members.pop(name, None))

    async def _free(self, path: Path | None) -> None:
        if path in self._kept or path in self._members.values() or path == self._shown:
            return
        if task := self._engines.pop((path, "transformers")):
            await (await task).close()

    async def _path(self, name: str) -> Path:
        return (await asyncio.to_thread(locate, name, self.home)).resolve()

    @cached_property
    def _threads_now(self) -> int:
        """Looked at once, when the first engine loads: later the others' own work would count as somebody else's."""
        return self._threads or default_threads()

    async def close(self) -> None:
        for set_ in await self._fused.taken():
            await set_.close()
        for engine in await self._engines.taken():
            await engine.close()

    async def _load_llama(self, path: Path) -> LlamaCpp:
        return await LlamaCpp.load(path, threads=self._threads_now, parallel=self._parallel, context=self._context)

    async def _torch(self, name: str, path: Path) -> TransformersEngine:
        from local_models.transformers_engine import TransformersEngine  # noqa: PLC0415  (torch takes seconds)

        async def load() -> TransformersEngine:
            engine = await TransformersEngine.load(
                path, home=self.home, threads=self._threads_now, parallel=self._parallel, context=self._context
            )
            if name in CATALOGUE:
                engine.name = name  # a file says more than anyone asked for
            return engine

        engine = await self._engines.get((path, "transformers"), load)
        assert isinstance(engine, TransformersEngine)
        return engine


def _refuse_twins(names: Sequence[str], paths: Sequence[Path]) -> None:
    """One model under two names would vote twice: that is what weights are for."""
    files = [next(iter(sorted(path.glob("*.safetensors"))), path) if path.is_dir() else path for path in paths]
    for (one, first), (other, second) in combinations(zip(names, files, strict=True), 2):
        same_size = first.stat().st_size == second.stat().st_size
        if first == second or (same_size and digest_of(first) == digest_of(second)):
            raise InputError(f"{one} and {other} are the same model; name it once, and give it a weight")


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
