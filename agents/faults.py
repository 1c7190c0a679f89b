"""What a provider's failure means in our own errors, and nothing of its keys in the message."""

from __future__ import annotations

import email.utils
import os
import re
import time
from collections.abc import Iterable, Mapping

from eot.errors import AuthError, CallError, ContextOverflowError, RateLimitedError, TransientError
from eot.text import clean

# Several providers' adapters miss the key before anything is sent, and call that a server's fault.
_NO_KEY = re.compile(r"missing [\w ]*(?:credentials|api.key)", re.IGNORECASE)
_CUT_OFF = frozenset(
    {
        "MidStreamFallbackError",
        "APIConnectionError",
        "Timeout",
        "ConnectionError",
        "TimeoutError",
        "TransportError",
        "ClientError",
    }
)
_OVERFLOW = re.compile(r"context.length|context.size|context.window|prompt is too long|too many tokens", re.IGNORECASE)
_LONGEST_MESSAGE = 500
_KEY_SHAPES = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|AIza)[-_][\w*.-]{6,}|(?i:bearer)\s+\S+|\bAIza[\w-]{20,}")
_SECRET_VARIABLE = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$")
_SHORTEST_SECRET = 8
_OVERFLOW_NUMBERS = (
    re.compile(
        r"maximum context length is (?P<context>\d+) tokens.*? (?:requested|resulted in) (?P<prompt>\d+) tokens"
    ),
    re.compile(r"prompt is too long: (?P<prompt>\d+) tokens > (?P<context>\d+)"),
)


def call_error(fault: Exception, who: str, key_hint: str, secrets: Iterable[str] = ()) -> CallError:
    """Say in our terms what went wrong.

    Args:
        fault: an exception of the OpenAI family: `status_code`, perhaps the response's headers, a class name.
        who: the agent and its model, for the message.
        key_hint: where its key should be, for the message.
        secrets: what must not be shown, besides all that looks like a key or stands in a variable for one.
    """
    kind, status = _family(fault), getattr(fault, "status_code", None)
    said = scrub(str(fault), secrets)
    if "ContextWindowExceededError" in kind or (status in (400, 413) and _OVERFLOW.search(said)):
        return ContextOverflowError(f"{who}: the prompt does not fit the model's context: {said}", *_numbers(said))
    if status in (401, 403) or _NO_KEY.search(said):
        return AuthError(f"{who}: the key is missing or was refused; {key_hint}. The provider said: {said}")
    if status == 429:
        return RateLimitedError(f"{who}: asked too fast: {said}", retry_after(_headers(fault)))
    cut_off = _CUT_OFF & kind
    if cut_off or status in (408, 409, 425) or (isinstance(status, int) and status >= 500):
        return TransientError(f"{who}: unavailable or cut off: {said}")
    return CallError(f"{who}: {said}")


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """The text on one line, cut to a length fit for a message, safe to print, with every key in it blotted out."""
    text = blot(clean(text), secrets)  # cleaned first: a mark that nobody sees could hide a key
    text, *_ = text.partition("Traceback (most recent call last)")  # LiteLLM appends one to some messages
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."


def blot(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets, those of the environment, and whatever looks like a key."""
    found = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name)} | set(secrets)
    for secret in sorted(found, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "[key]")
    return _KEY_SHAPES.sub("[key]", text)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the other side asks us to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    if said is None or (seconds := _number(said)) is not None:
        return None if said is None else seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None


def _number(said: str | None) -> float | None:
    try:
        number = float(said or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _headers(fault: Exception) -> Mapping[str, str]:
    """Where LiteLLM leaves the response's headers depends on the provider."""
    response = getattr(fault, "response", None)
    for headers in (getattr(fault, "litellm_response_headers", None), getattr(response, "headers", None)):
        if headers:
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return {}


def _family(fault: Exception) -> set[str]:
    return {kind.__name__ for kind in type(fault).__mro__}


def _numbers(said: str) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the context, where the provider's sentence is one that we know."""
    for pattern in _OVERFLOW_NUMBERS:
        if found := pattern.search(said):
            return int(found["prompt"]), int(found["context"])
    return None, None
