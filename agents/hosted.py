"""Models that others host, or that an OpenAI-compatible server of one's own serves. The one module that knows LiteLLM.

LiteLLM is used as a plain library: it retries nothing (Retry does), waits for nothing (Deadline does), phones nobody,
logs nothing and takes its prices from its own package. Importing it costs seconds, in which even a thread holds all
others up for half a second: whoever serves has it done before (`HostedAgent.prepare`); else the first call does it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import Field, SecretStr

from agents.checked import MAX_REPLY_CHARACTERS
from agents.faults import call_error
from agents.openai_server import CallPiece, Piece, pieces
from agents.wire import FROM_AN_AGENT, guarded_client
from eot.errors import CallError, InputError, OversizedReplyError, TransientError
from eot.types import Delta, Finish, Frozen, Hear, Message, Prompt, Reply, ToolCall, Usage

_OWN = "openai/"
_CHARACTERS_A_TOKEN, _MESSAGES_OWN = 4, 4
_LITELLMS_OWN = ("api_key", "base_url", "extra_headers", "num_retries")
_SEEDS = 2**31
"""Providers take seeds from 0 to one below this; an agent's own seed is added to the run's, and may pass it."""


class Prices(Frozen):
    """US dollars for a million tokens."""

    input_usd_per_million: float = Field(ge=0)
    output_usd_per_million: float = Field(ge=0)

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input_usd_per_million + output_tokens * self.output_usd_per_million) / 1e6


@dataclass(frozen=True, kw_only=True)
class HostedAgent:
    """Asks `model`, any LiteLLM model string (`anthropic/...`, `openai/...`), and streams what it writes.

    With `base_url`, which only the operator's configuration may name, `openai/NAME` speaks to a server of one's own,
    directly (`agents.openai_server`), since LiteLLM costs five times the processor time; that server is sent `api_key`
    or a placeholder, never a key that was found in the environment for someone else.
    Without it a missing `api_key` is looked up in the environment under the provider's usual name; `key_variable` is
    the name that messages then tell. A `temperature` or `top_p` of None is not sent, and the provider's own holds (some
    models refuse to be told both); what the provider does not know is left out too.
    """

    name: str
    model: str
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    api_key: SecretStr | None = None
    key_variable: str = ""
    base_url: str | None = None
    prices: Prices | None = None

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer the prompt.

        Raises:
            InputError: LiteLLM knows no such model string.
            AuthError: the key is missing or refused.
            RateLimitedError: asked too fast.
            ContextOverflowError: the prompt does not fit.
            TransientError: unavailable, cut off, or ended before it was finished.
            OversizedReplyError: it wrote more than 400,000 characters and was cut off.
            CallError: anything else that the provider says.
        """
        started = time.perf_counter()
        if not self._is_own_server:
            await asyncio.to_thread(self._refuse_unknown_model)
        texts: list[str] = []
        size, finish, usage = 0, "stop", None  # the size counts hidden reasoning too
        calls = _Calls()
        async with aclosing(self._pieces(prompt)) as pieces:
            async for piece in pieces:
                usage = piece.usage or usage
                finish = piece.finish or finish
                size += piece.size
                self._refuse_endless(size)
                calls.hear(piece.calls)
                if piece.text:
                    texts.append(piece.text)
                    if hear:
                        hear(Delta(text=piece.text))
        written = "".join(texts)
        return Reply(
            text=written,
            usage=self._usage(prompt, written, size, usage),
            finish=_finish(finish),
            seconds=time.perf_counter() - started,
            tool_calls=calls.whole,
        )

    def prepare(self) -> None:
        """Import what the first call would else import, in seconds. Not on an event loop."""
        if self._is_own_server:
            import aiohttp  # noqa: F401, PLC0415 - what a server of one's own is asked with
        else:
            asyncio.run(self._rehearse())

    async def _rehearse(self) -> None:
        """A call that reaches nobody: some of LiteLLM is only imported by the first one to each provider."""
        request = self._request(Prompt(messages=(Message(role="user", content="?"),)))
        with suppress(Exception):  # a model that nobody knows is told when it is asked
            stream = await _litellm().acompletion(**request, mock_response="!")
            async for _ in stream:
                pass

    async def is_priced(self) -> bool:
        """Whether what a call costs can be known."""
        return await self.known_prices() is not None

    async def known_prices(self) -> Prices | None:
        """What a million tokens cost, as far as a small call shows it; None when nobody knows."""
        read, written = await asyncio.to_thread(lambda: (self._cost(1_000, 0), self._cost(1_000, 1_000)))
        if read is None or written is None:
            return None
        return Prices(input_usd_per_million=1_000 * read, output_usd_per_million=1_000 * max(0.0, written - read))

    @property
    def _who(self) -> str:
        return f"{self.name} ({self.model})"

    @property
    def _is_own_server(self) -> bool:
        return self.base_url is not None and self.model.startswith(_OWN)

    async def _pieces(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The reply's pieces; whatever goes wrong becomes an error of ours. Closing this closes the connection."""
        source = self._from_own_server(prompt) if self._is_own_server else self._from_litellm(prompt)
        try:
            async with aclosing(source):
                async for piece in source:
                    yield piece
        except CallError:
            raise
        except Exception as caught:  # noqa: BLE001 - LiteLLM raises its own, openai's, httpx's and plain errors
            fault = caught
        else:
            return
        # Raised out here, not in the handler: a chained traceback would print the provider's words, key and all.
        raise call_error(fault, self._who, self._key_hint, self._secrets)

    async def _from_own_server(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        request = self._request(prompt)
        body = {name: value for name, value in request.items() if name not in _LITELLMS_OWN}
        ended = False
        body["model"] = self.model.removeprefix(_OWN)
        async with aclosing(pieces(request["base_url"], request["api_key"], body)) as found:
            async for piece in found:
                ended = ended or piece.finish is not None
                yield piece
        self._refuse_half(ended=ended)

    async def _from_litellm(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        litellm = _litellm()
        litellm.aclient_session = guarded_client(litellm.AsyncHTTPHandler)
        stream = await litellm.acompletion(**self._request(prompt))
        try:
            async for chunk in stream:
                yield _read(chunk)
            # It invents a "stop" for a connection that was closed in mid-sentence: what it received says more.
            self._refuse_half(ended=bool(stream.received_finish_reason or stream.intermittent_finish_reason))
        finally:
            await stream.aclose()

    def _refuse_endless(self, size: int) -> None:
        if size > MAX_REPLY_CHARACTERS:
            raise OversizedReplyError(
                f"{self._who} wrote more than {MAX_REPLY_CHARACTERS:,} characters; it was cut off"
            )

    def _refuse_half(self, *, ended: bool) -> None:
        if not ended:
            raise TransientError(f"{self._who}: the reply ended before it was finished")

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        given = {
            "api_key": self.api_key.get_secret_value() if self.api_key else ("none" if self.base_url else None),
            "base_url": self.base_url,
            "stop": list(self.stop) or None,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "extra_headers": {FROM_AN_AGENT: "1"} if self.base_url else None,
            "seed": None if prompt.seed is None else prompt.seed % _SEEDS,
        }
        return {
            "model": self.model,
            "messages": [_on_the_wire(message) for message in prompt.messages],
            "max_tokens": self.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "num_retries": 0,
            **{name: value for name, value in given.items() if value is not None},
            **prompt.options,
        }

    def _refuse_unknown_model(self) -> None:
        try:
            name, *_ = _litellm().get_llm_provider(self.model, api_base=self.base_url)
        except Exception:  # noqa: BLE001 - its exact type changes with LiteLLM's version
            name = ""
        if not name:
            raise InputError(
                f"agents.{self.name}: LiteLLM knows no provider for the model {self.model!r}; write PROVIDER/MODEL, "
                "such as anthropic/NAME, or openai/NAME with a base_url for an OpenAI-compatible server"
            )

    @property
    def _key_hint(self) -> str:
        """Where the key should be. Asked only after a failure: some providers take other proofs than a key."""
        if self.key_variable:
            return f"see {self.key_variable}"
        if self.api_key or self.base_url:
            return f"see api_key or api_key_env of agents.{self.name}"
        missing = _litellm().validate_environment(self.model)["missing_keys"]
        return f"set {' or '.join(missing)}" if missing else "see its provider's variable"

    @property
    def _secrets(self) -> list[str]:
        return [self.api_key.get_secret_value()] if self.api_key else []

    def _usage(self, prompt: Prompt, written: str, size: int, told: Any) -> Usage:
        """What the provider says was used; when it says nothing, LiteLLM's tokenizer counts.

        What a server of one's own that says nothing used is reckoned from the characters.
        """
        if told is None and self._is_own_server:
            sent = sum(len(message.content) // _CHARACTERS_A_TOKEN + _MESSAGES_OWN for message in prompt.messages)
            got = -(-size // _CHARACTERS_A_TOKEN)
        elif told is None:
            count = _litellm().token_counter
            messages = [_on_the_wire(message) for message in prompt.messages]
            sent, got = count(model=self.model, messages=messages), count(model=self.model, text=written)
        else:
            sent, got = told.prompt_tokens or 0, told.completion_tokens or 0
        return Usage(calls=1, input_tokens=sent, output_tokens=got, cost_usd=self._cost(sent, got, told))

    def _cost(self, sent: int, got: int, told: Any = None) -> float | None:
        """US dollars; None when nobody knows. A zero of LiteLLM's is not believed: it also stands for "unknown".

        A server of one's own may go by the name of a model that costs money elsewhere: only our own prices count.
        """
        if self.prices:
            return self.prices.cost(sent, got)
        if self.base_url:
            return None
        try:
            costs = _litellm().cost_per_token(
                model=self.model, prompt_tokens=sent, completion_tokens=got, usage_object=told
            )
        except Exception:  # noqa: BLE001 - any failure to price means that the price is unknown
            return None
        return sum(costs) or None


def _read(chunk: Any) -> Piece:
    """What a chunk of LiteLLM's says. Hidden reasoning is paid for, but not part of the reply."""
    usage = getattr(chunk, "usage", None)
    if not chunk.choices:
        return Piece(usage=usage)
    choice = chunk.choices[0]
    thinking = getattr(choice.delta, "reasoning_content", None) or ""
    calls = tuple(
        CallPiece(call.index or 0, call.id or "", call.function.name or "", call.function.arguments or "")
        for call in getattr(choice.delta, "tool_calls", None) or ()
    )
    return Piece(choice.delta.content or "", thinking, choice.finish_reason, usage, calls)


def _on_the_wire(message: Message) -> dict[str, Any]:
    """As OpenAI's chat completions have it."""
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        told["content"] = message.content or None
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


class _Calls:
    """Tool calls as they come in, piece by piece; several at once are told apart by their index."""

    def __init__(self) -> None:
        self._heard: dict[int, list[CallPiece]] = {}

    def hear(self, pieces: tuple[CallPiece, ...]) -> None:
        for piece in pieces:
            self._heard.setdefault(piece.index, []).append(piece)

    @property
    def whole(self) -> tuple[ToolCall, ...]:
        """In the order of their indices. A server that gives a call no id gets one, by which its output is known."""
        joined = [_joined(pieces) for _, pieces in sorted(self._heard.items())]
        return tuple(call for call in joined if call.name)


def _joined(pieces: list[CallPiece]) -> ToolCall:
    return ToolCall(
        id=next((piece.id for piece in pieces if piece.id), f"call_{secrets.token_hex(12)}"),
        name="".join(piece.name for piece in pieces),
        arguments="".join(piece.arguments for piece in pieces),
    )


def _finish(reason: str) -> Finish:
    return "length" if reason == "length" else "stop"


@cache
def _litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import fetches a price list
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # else the import reads a .env of the current folder
    import litellm  # noqa: PLC0415 - seconds and 140 MB, wanted only by those who ask a hosted model

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    litellm.disable_streaming_logging = True  # for callbacks of which there are none: a third of a call's CPU time
    # It takes 100 equal chunks for a server's fault, to be asked again; a model that loops would only loop again.
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = MAX_REPLY_CHARACTERS
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).disabled = True  # at DEBUG they write prompts and headers
    return litellm
