"""A model that runs on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from eot.types import Delta, Hear, Prompt, Reply, Usage
from local_models.engine import Engine, Sampling


@dataclass(frozen=True)
class LocalAgent:
    """Asks an engine, which `engine` hands out when it is first needed (loading takes seconds and memory).

    The prompt's seed wins over the sampling's. A call costs 0 dollars: the machine is one's own.
    """

    name: str
    engine: Callable[[], Awaitable[Engine]]
    sampling: Sampling

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer the prompt.

        Raises:
            ContextOverflowError: the prompt does not fit, with both numbers.
            CallError: the engine was closed or failed.
            InputError: the model cannot chat.
            WeightsError: the model is not here, or cannot be loaded.
        """
        engine = await self.engine()
        sampling = self.sampling if prompt.seed is None else replace(self.sampling, seed=prompt.seed)
        messages = [message.model_dump() for message in prompt.messages]
        made = await engine.generate(messages, sampling, _pieces(hear))
        return Reply(
            text=made.text,
            usage=Usage(calls=1, input_tokens=made.input_tokens, output_tokens=made.output_tokens, cost_usd=0.0),
            finish=made.finish,
            seconds=made.seconds,
        )


def _pieces(hear: Hear | None) -> Callable[[str], None] | None:
    return (lambda text: hear(Delta(text=text))) if hear else None
