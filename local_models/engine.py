"""What every engine can do: text in, text out, in one process, for several requests at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from eot.errors import InputError
from eot.text import fault_in

Messages = Sequence[Mapping[str, str]]
"""A conversation: {"role": "system" | "user" | "assistant", "content": text}."""
Hear = Callable[[str], None]
"""Is handed each piece of text as it comes, on the event loop. What it raises ends that generation."""
Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: softmax(logits / temperature), cut to the nucleus `top_p`, drawn with `seed`.

    Temperature 0 is greedy. Nothing else is applied (no top-k, no penalties). No seed: drawn anew each time.
    `top_logprobs` > 0 asks for the log probabilities, and for that many alternatives at each token.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int = 0


@dataclass(frozen=True)
class TokenLogprob:
    """A token that was written: its natural log probability at temperature 1, and the likeliest tokens there."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


Trace = Callable[[str, TokenLogprob | None], None]
"""Is handed what each token was (None unless log probabilities were asked for) and the text that it made certain."""


@dataclass(frozen=True)
class Generation:
    """What came out. `finish` is "stop" (the model ended, or a stop string) or "length" (max_tokens or context).

    `notes` are remarks on how it came about, such as a member of a fused set that had to be dropped.
    """

    text: str
    input_tokens: int
    output_tokens: int
    finish: Finish
    seconds: float
    logprobs: tuple[TokenLogprob, ...] | None = None
    notes: tuple[str, ...] = ()


class Engine(Protocol):
    """One loaded model. Requests that come together are batched; cancelling the task stops it within one token."""

    @property
    def context_tokens(self) -> int:
        """Tokens of one request, prompt and reply together."""

    async def generate(self, messages: Messages, sampling: Sampling, hear: Hear | None = None) -> Generation:
        """Answer a conversation, put into the model's own chat template.

        Raises:
            ContextOverflowError: the prompt does not fit, with both numbers.
            InputError: a base model without a chat template, or text that no model can read.
        """

    async def complete(self, prompt: str, sampling: Sampling, hear: Hear | None = None) -> Generation:
        """Go on from `prompt` as it stands, with no template. Raises as `generate` does."""

    async def close(self) -> None:
        """Stop what runs and free the memory."""


def checked(messages: Messages) -> list[dict[str, str]]:
    """The conversation as plain dicts.

    Raises:
        InputError: it is empty, or has text that cannot be encoded.
    """
    if not messages:
        raise InputError("a conversation needs at least one message")
    for message in messages:
        if fault := fault_in(message["content"]):
            raise InputError(f"the {message['role']}'s message cannot be sent: {fault}")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def need_template(name: str, *, has_one: bool) -> None:
    """Refuse to chat with a base model: with a made-up template it would answer nonsense that looks like an answer."""
    if not has_one:
        raise InputError(f"{name} is a base model without a chat template: it can complete a prompt, not chat")
