"""The engine for GPUs, and for everything that touches logits, layers or experts: torch, in batches."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from eot.errors import CallError, ContextOverflowError, MissingExtraError
from local_models.batches import Batches
from local_models.engine import Generation, Hear, Messages, Sampling, TokenLogprob
from local_models.prompts import chat_ids, text_ids
from local_models.request import Request

T = TypeVar("T")


class TransformersEngine:
    """An `Engine` on a torch model. Load one with `await TransformersEngine.load(...)`.

    `model` is a transformers causal LM and `tokenizer` its tokenizer: fusion and the like use them directly. `ends`
    are the tokens that end a reply.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, *, parallel: int = 4, context: int = 4096) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        trained = getattr(model.config, "max_position_embeddings", None) or context
        self.context_tokens = min(context, trained)
        self.ends = _end_tokens(model, tokenizer)
        self._batches: Batches[_Request] = Batches(name, parallel, self._decode)

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
        self._batches.refuse_closed()
        return await self._run(chat_ids(self.tokenizer, messages, self.name), sampling, hear)

    async def complete(self, prompt: str, sampling: Sampling, hear: Hear | None = None) -> Generation:
        self._batches.refuse_closed()
        return await self._run(text_ids(self.tokenizer, prompt), sampling, hear)

    async def between(self, look: Callable[[Any, Any], T]) -> T:
        """Run something on (model, tokenizer) between two batches, when nobody else uses the model."""
        return await self._batches.between(lambda: look(self.model, self.tokenizer))

    def text(self, ids: Sequence[int]) -> str:
        """What a reply of these tokens says."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    async def close(self) -> None:
        await self._batches.close()
        self.model = self.tokenizer = None

    async def _run(self, prompt: list[int], sampling: Sampling, hear: Hear | None) -> Generation:
        limit = min(room(prompt, self.context_tokens, self.name), sampling.max_tokens)
        return await self._batches.told(_Request(prompt, sampling, limit, self.text, self.ends, self.name), hear)

    def _decode(self, requests: Sequence[_Request]) -> None:
        from local_models.decode import Row, decode  # noqa: PLC0415  (imports torch)

        def more(running: int) -> list[Row]:
            return [request.row() for request in self._batches.more(running)]

        decode(self.model, [request.row() for request in requests], self.tokenizer.pad_token_id or 0, more)


class _Request(Request[int]):
    """A request to one model."""

    def __init__(
        self,
        prompt: list[int],
        sampling: Sampling,
        limit: int,
        text: Callable[[list[int]], str],
        ends: frozenset[int],
        name: str,
    ) -> None:
        super().__init__(sampling, limit, text, input_tokens=len(prompt))
        self._prompt, self._text, self._ends, self._name = prompt, text, ends, name

    def row(self) -> Any:
        from local_models.decode import Row  # noqa: PLC0415  (imports torch)

        return Row(
            prompt=self._prompt,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            draws=random.Random(self.sampling.seed),  # noqa: S311  (text, not secrets)
            take=self._take,
            wanted=self.wanted,
            fail=lambda fault: self.fail(CallError(f"{self._name} failed: {fault}")),
            top_logprobs=self.sampling.top_logprobs,
        )

    def _take(self, token: int, logprob: float, top: tuple[tuple[int, float], ...]) -> bool:
        others = tuple((self._text([other]), value) for other, value in top)
        told = TokenLogprob(self._text([token]), logprob, others) if top else None
        return self.take(token, told, ended=token in self._ends)


def room(prompt: Sequence[int], context_tokens: int, name: str) -> int:
    """How many tokens a reply may have.

    Raises:
        ContextOverflowError: none, with both numbers.
    """
    if len(prompt) >= context_tokens:
        raise ContextOverflowError(
            f"the prompt has {len(prompt)} tokens and the context of {name} {context_tokens}; "
            "shorten it or raise `context`",
            len(prompt),
            context_tokens,
        )
    return context_tokens - len(prompt)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: the model's own configuration and the tokenizer may each name some."""
    named: Iterable[Any] = (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id)
    listed = (ends if isinstance(ends, list) else [ends] for ends in named)
    return frozenset(end for ends in listed for end in ends if end is not None)
