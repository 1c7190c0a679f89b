"""An OpenAI-compatible server of one's own, asked directly: LiteLLM takes five times the processor time for it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from agents.wire import direct_session, lines, shortly

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True)
class Tokens:
    """What the server says was used."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class CallPiece:
    """A piece of a tool call: which one, and what is added to it."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True)
class Piece:
    """A piece of a reply: text, hidden reasoning, why it ended if it did, what was used if it is said, tool calls."""

    text: str = ""
    thinking: str = ""
    finish: str | None = None
    usage: Any = None
    calls: tuple[CallPiece, ...] = ()

    @property
    def size(self) -> int:
        """Characters that were written, the hidden and the called ones too."""
        return len(self.text) + len(self.thinking) + sum(len(call.name) + len(call.arguments) for call in self.calls)


class ServerError(Exception):
    """The server refused. It has what a provider's exception has: the status and the response with its headers."""

    def __init__(self, message: str, status: int, response: aiohttp.ClientResponse) -> None:
        super().__init__(message)
        self.status_code, self.response = status, response


async def pieces(base_url: str, key: str, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
    """Stream a chat completion.

    Raises:
        ServerError: it refused, at once or in mid-stream.
        aiohttp.ClientError, OSError: it cannot be reached, or broke off.
        httpx.RemoteProtocolError: it does not speak the protocol.
    """
    url = f"{base_url.rstrip('/')}/chat/completions"
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    async with direct_session().post(url, data=data, headers=headers, allow_redirects=False) as answer:
        if answer.status >= 300:
            raise ServerError(_message(await shortly(answer)), answer.status, answer)
        async for line in lines(answer):
            if not line.startswith(b"data:"):
                continue
            told = line[5:].strip()
            if told == b"[DONE]":
                return
            yield _piece(_json(told), answer)


def _json(data: bytes) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise httpx.RemoteProtocolError("the server sent what is no chunk of a completion")
    return told


def _message(body: str) -> str:
    """What an error's body says; all of it where it is not in OpenAI's envelope."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return body


def _piece(told: dict[str, Any], answer: aiohttp.ClientResponse) -> Piece:
    if error := told.get("error"):
        code = error.get("code") if isinstance(error, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        raise ServerError(str(message), code if isinstance(code, int) else 500, answer)
    try:
        return _read(told)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise httpx.RemoteProtocolError("the server sent a chunk of another shape") from None


def _read(told: dict[str, Any]) -> Piece:
    used, choices = told.get("usage"), told.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return Piece(
        text=delta.get("content") or "",
        thinking=delta.get("reasoning_content") or delta.get("reasoning") or "",
        finish=choices[0].get("finish_reason"),
        usage=Tokens(int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)) if used else None,
        calls=tuple(_call(call) for call in delta.get("tool_calls") or ()),
    )


def _call(told: dict[str, Any]) -> CallPiece:
    function = told.get("function") or {}
    return CallPiece(
        index=int(told.get("index") or 0),
        id=str(told.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=str(function.get("arguments") or ""),
    )
