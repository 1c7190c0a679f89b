"""The engine for CPUs: llama.cpp in this process, through xllamacpp.

Its calls block with the GIL released, so each runs in a thread of its own; chunks hop to the event loop. A callback
that returns True ends the request, which is how a cancelled task gives its slot back.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from eot.errors import CallError, ContextOverflowError, InputError, WeightsError
from eot.text import fault_in
from local_models.engine import Finish, Generation, Hear, Messages, Sampling, TokenLogprob, checked, need_template
from local_models.gguf_header import read_header

PREFILL_TOKENS = 128
"""Prompt tokens between two looks at the other requests, and at whether this one is still wanted."""

Chunk = dict[str, Any]


class LlamaCpp:
    """An `Engine` on a GGUF file. Load one with `await LlamaCpp.load(...)`."""

    def __init__(self, server: Any, name: str, context_tokens: int, parallel: int, *, chat: bool) -> None:
        self.context_tokens = context_tokens
        self._server: Any = server
        self._name, self._chat = name, chat
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix=f"llama-{name}")
        self._stops: set[threading.Event] = set()

    @classmethod
    async def load(cls, path: Path, *, threads: int, parallel: int = 4, context: int = 4096) -> Self:
        """Load the file, off the event loop, with `context` tokens (at most the trained ones) for each request.

        Raises:
            WeightsError: the file is damaged, or of an architecture that llama.cpp does not know.
        """
        return await asyncio.to_thread(cls._load, path, threads, parallel, context)

    @classmethod
    def _load(cls, path: Path, threads: int, parallel: int, context: int) -> Self:
        header = read_header(path)
        trained = int(header.get(f"{header.get('general.architecture')}.context_length", context))
        context = min(context, trained)
        try:
            server = _server(path, threads, parallel, context)
        except RuntimeError as fault:
            raise WeightsError(f"llama.cpp cannot load {path}: {fault}") from fault
        return cls(server, path.stem, context, parallel, chat="tokenizer.chat_template" in header)

    async def generate(self, messages: Messages, sampling: Sampling, hear: Hear | None = None) -> Generation:
        need_template(self._name, has_one=self._chat)
        request = {"messages": checked(messages)} | _settings(sampling)
        return await self._run("handle_chat_completions", request, hear)

    async def complete(self, prompt: str, sampling: Sampling, hear: Hear | None = None) -> Generation:
        if fault := "it is empty" if not prompt else fault_in(prompt):
            raise InputError(f"the prompt cannot be sent: {fault}")
        request = {"prompt": prompt} | _settings(sampling)
        return await self._run("handle_completions", request, hear)

    async def close(self) -> None:
        for stop in self._stops:
            stop.set()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        self._server = None

    async def _run(self, handler: str, request: Chunk, hear: Hear | None) -> Generation:
        if self._server is None:
            raise CallError(f"{self._name} has been closed")
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()
        stop = threading.Event()
        self._stops.add(stop)

        def told(chunk: Chunk) -> bool:
            if not stop.is_set():
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            return stop.is_set()

        job = loop.run_in_executor(self._pool, getattr(self._server, handler), request, told)
        job.add_done_callback(lambda _: chunks.put_nowait(None))
        draft = _Draft()
        try:
            while (chunk := await chunks.get()) is not None:
                if (piece := draft.add(chunk)) and hear:
                    hear(piece)
            await job
            if stop.is_set():
                raise CallError(f"{self._name} was closed while it wrote")
        finally:
            stop.set()
            self._stops.discard(stop)
            job.cancel()
        return draft.ended(time.perf_counter() - began)


class _Draft:
    """A generation while its chunks come in."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish: Finish = "stop"
        self._usage: dict[str, int] = {}

    def add(self, chunk: Chunk) -> str:
        """Take one chunk in; return the text it brought."""
        if fault := chunk.get("error"):
            raise _as_error(fault)
        self._usage = chunk.get("usage") or self._usage
        piece = ""
        for choice in chunk.get("choices", ()):
            piece += choice.get("text") or choice.get("delta", {}).get("content") or ""
            self._finish = "length" if choice.get("finish_reason") == "length" else "stop"
            self._logprobs += [_logprob(row) for row in (choice.get("logprobs") or {}).get("content") or ()]
        self._pieces.append(piece)
        return piece

    def ended(self, seconds: float) -> Generation:
        return Generation(
            text="".join(self._pieces),
            input_tokens=self._usage.get("prompt_tokens", 0),
            output_tokens=self._usage.get("completion_tokens", 0),
            finish=self._finish,
            seconds=seconds,
            logprobs=tuple(self._logprobs) or None,
        )


def _logprob(row: Chunk) -> TokenLogprob:
    top = tuple((other["token"], float(other["logprob"])) for other in row.get("top_logprobs", ()))
    return TokenLogprob(row["token"], float(row["logprob"]), top)


def _settings(sampling: Sampling) -> Chunk:
    """Name every sampler that is to run: what is left out here, llama.cpp fills with defaults of its own."""
    request: Chunk = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "samplers": ["temperature", "top_p"],  # llama.cpp's own order cuts the nucleus before the temperature
        "stop": list(sampling.stop),
        "seed": (secrets.randbits(31) if sampling.seed is None else sampling.seed) % 2**31,
        "reasoning_format": "none",
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # a chunk per piece of prompt, so that a long prompt can be cancelled too
    }
    if sampling.top_logprobs:
        request |= {"logprobs": True, "top_logprobs": sampling.top_logprobs, "n_probs": sampling.top_logprobs}
    return request


def _server(path: Path, threads: int, parallel: int, context: int) -> Any:
    import xllamacpp  # noqa: PLC0415  (34 MB of native code)

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = parallel
    params.n_ctx = context * parallel  # split evenly, so that no request can take another one's context
    params.fit_params = False  # it would shrink the context silently
    params.n_batch = params.n_ubatch = PREFILL_TOKENS
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = threads
        pool.poll = 0  # threads that spin while they wait take the core from whatever else runs
    params.cache_ram_mib = 0  # the slots' own caches are enough; its default may take 8 GiB
    params.verbosity = -1
    params.ui = params.endpoint_slots = False
    # xllamacpp always opens a loopback port; with a key that nobody knows, no other user of this machine can use it
    params.api_keys = [secrets.token_hex(16)]
    return xllamacpp.Server(params)


def _as_error(fault: Chunk) -> CallError:
    if fault.get("type") == "exceed_context_size_error":
        prompt, context = fault.get("n_prompt_tokens"), fault.get("n_ctx")
        return ContextOverflowError(
            f"the prompt has {prompt} tokens and the context {context}; shorten it or raise `context`", prompt, context
        )
    return CallError(f"llama.cpp: {fault.get('message', fault)}")
