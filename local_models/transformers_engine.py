"""The engine for GPUs, and for everything that touches logits, layers or experts: torch, in batches.

Requests that wait are taken together, up to `parallel` of them, and decoded as one batch in a thread; those that come
meanwhile form the next batch.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

from eot.errors import CallError, ContextOverflowError, InputError, MissingExtraError
from eot.text import fault_in
from local_models.engine import Finish, Generation, Hear, Messages, Sampling, TokenLogprob, checked, need_template
from local_models.text_stream import TextStream

GATHER_SECONDS = 0.005
"""How long the first request of a batch waits for others: far less than one step of a model takes."""


class TransformersEngine:
    """An `Engine` on a torch model. Load one with `await TransformersEngine.load(...)`.

    `model` is a transformers causal LM and `tokenizer` its tokenizer: fusion and the like use them directly.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, *, parallel: int = 4, context: int = 4096) -> None:
        self.model, self.tokenizer = model, tokenizer
        trained = getattr(model.config, "max_position_embeddings", None) or context
        self.context_tokens = min(context, trained)
        self._name, self._parallel = name, parallel
        self._ends = _end_tokens(model, tokenizer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"torch-{name}")
        self._waiting: list[_Request] = []
        self._running: list[_Request] = []
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def load(
        cls,
        path: Path,
        *,
        home: Path,
        threads: int,
        parallel: int = 4,
        context: int = 4096,
        dtype: str = "bfloat16",
    ) -> Self:
        """Load a GGUF file or a safetensors folder, off the event loop; `dtype` is the name of a torch dtype.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            WeightsError: it cannot be read.
        """
        try:
            import torch  # noqa: PLC0415  (an extra, and seconds)

            from local_models.transformers_load import load_model  # noqa: PLC0415
        except ImportError as fault:
            raise MissingExtraError("Running a model with transformers", "torch") from fault
        torch.set_num_threads(threads)
        model, tokenizer = await asyncio.to_thread(load_model, path, home, getattr(torch, dtype))
        return cls(model, tokenizer, path.name.removesuffix(".gguf"), parallel=parallel, context=context)

    async def generate(self, messages: Messages, sampling: Sampling, hear: Hear | None = None) -> Generation:
        self._refuse_closed()
        need_template(self._name, has_one=bool(self.tokenizer.chat_template))
        from jinja2 import TemplateError  # noqa: PLC0415  (comes with torch)

        try:
            prompt = self.tokenizer.apply_chat_template(
                checked(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except TemplateError as fault:
            raise InputError(f"the chat template of {self._name} refuses this conversation: {fault}") from fault
        return await self._run(prompt, sampling, hear)

    async def complete(self, prompt: str, sampling: Sampling, hear: Hear | None = None) -> Generation:
        self._refuse_closed()
        if fault := "it is empty" if not prompt else fault_in(prompt):
            raise InputError(f"the prompt cannot be sent: {fault}")
        return await self._run(self.tokenizer.encode(prompt), sampling, hear)

    async def close(self) -> None:
        self._closed = True
        for request in (*self._waiting, *self._running):
            request.fail(CallError(f"{self._name} was closed while it wrote"))
        self._waiting.clear()
        await asyncio.to_thread(self._thread.shutdown)
        self.model = self.tokenizer = None

    def _refuse_closed(self) -> None:
        if self._closed:
            raise CallError(f"{self._name} has been closed")

    async def _run(self, prompt: list[int], sampling: Sampling, hear: Hear | None) -> Generation:
        room = self.context_tokens - len(prompt)
        if room < 1:
            raise ContextOverflowError(
                f"the prompt has {len(prompt)} tokens and the context {self.context_tokens}; "
                "shorten it or raise `context`",
                len(prompt),
                self.context_tokens,
            )
        decode = partial(self.tokenizer.decode, skip_special_tokens=True)
        request = _Request(prompt, sampling, min(room, sampling.max_tokens), decode, self._ends)
        self._waiting.append(request)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await request.told(hear)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_SECONDS)
                self._running, self._waiting = self._waiting[: self._parallel], self._waiting[self._parallel :]
                if wanted := [request for request in self._running if request.wanted()]:
                    await self._decode(wanted)
        finally:
            self._running, self._worker = [], None

    async def _decode(self, requests: list[_Request]) -> None:
        from local_models.decode import decode  # noqa: PLC0415  (imports torch)

        pad = self.tokenizer.pad_token_id or 0
        rows = [request.row() for request in requests]
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, decode, self.model, rows, pad)
        except Exception as fault:  # noqa: BLE001  (whatever torch raises, nobody may wait for ever)
            for request in requests:
                request.fail(CallError(f"{self._name} failed: {fault}"))


class _Request:
    """One request on its way: written by the decoding thread, read on the event loop."""

    def __init__(
        self,
        prompt: list[int],
        sampling: Sampling,
        limit: int,
        decode: Callable[[list[int]], str],
        ends: frozenset[int],
    ) -> None:
        self._prompt, self._sampling, self._limit = prompt, sampling, limit
        self._decode, self._ends = decode, ends
        self._stream = TextStream(decode, sampling.stop)
        self._logprobs: list[TokenLogprob] = []
        self._began = time.perf_counter()
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[str | Generation | CallError] = asyncio.Queue()
        self._dropped = threading.Event()

    def row(self) -> Any:
        from local_models.decode import Row  # noqa: PLC0415  (imports torch)

        sampling = self._sampling
        return Row(
            prompt=self._prompt,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            draws=random.Random(sampling.seed),  # noqa: S311  (text, not secrets)
            take=self.take,
            wanted=self.wanted,
            top_logprobs=sampling.top_logprobs,
        )

    def wanted(self) -> bool:
        return not self._dropped.is_set()

    def fail(self, fault: CallError) -> None:
        self._dropped.set()
        self._news.put_nowait(fault)

    def take(self, token: int, logprob: float, top: tuple[tuple[int, float], ...]) -> bool:
        """Take one token, in the decoding thread; return whether to go on."""
        if top:
            others = tuple((self._decode([other]), value) for other, value in top)
            self._logprobs.append(TokenLogprob(self._decode([token]), logprob, others))
        if token in self._ends:
            return self._end("stop", extra=1)
        self._say(self._stream.add(token))
        if self._stream.stopped:
            return self._end("stop")
        return len(self._stream.tokens) < self._limit or self._end("length")

    async def told(self, hear: Hear | None) -> Generation:
        """Pass the text on as it comes; return the whole. Whoever stops waiting drops the request."""
        try:
            while True:
                news = await self._news.get()
                if isinstance(news, Generation):
                    return news
                if isinstance(news, CallError):
                    raise news
                if hear:
                    hear(news)
        finally:
            self._dropped.set()

    def _end(self, finish: Finish, extra: int = 0) -> bool:
        self._say(self._stream.end())
        result = Generation(
            text=self._stream.text,
            input_tokens=len(self._prompt),
            output_tokens=len(self._stream.tokens) + extra,  # the end token was generated too
            finish=finish,
            seconds=time.perf_counter() - self._began,
            logprobs=tuple(self._logprobs) or None,
        )
        self._loop.call_soon_threadsafe(self._news.put_nowait, result)
        return False

    def _say(self, piece: str) -> None:
        if piece:
            self._loop.call_soon_threadsafe(self._news.put_nowait, piece)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: the model's own configuration and the tokenizer may each name some."""
    named: Iterable[Any] = (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id)
    listed = (ends if isinstance(ends, list) else [ends] for ends in named)
    return frozenset(end for ends in listed for end in ends if end is not None)
