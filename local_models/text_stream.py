"""Tokens become text that can be shown: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Token = TypeVar("Token")
_CUT = "\ufffd"  # what a decoder writes for the first bytes of a character whose last bytes are yet to come


class TextStream(Generic[Token]):
    """Collects one request's tokens. `text` is what may be shown so far; `stopped` once a stop string was written."""

    def __init__(self, decode: Callable[[list[Token]], str], stops: Sequence[str] = ()) -> None:
        self.tokens: list[Token] = []
        self.text = ""
        self.stopped = False
        self._decode, self._stops = decode, tuple(stop for stop in stops if stop)

    def add(self, token: Token) -> str:
        """Take a token; return the text that can now be shown, often one token late."""
        self.tokens.append(token)
        written = self._decode(self.tokens)
        if found := [at for stop in self._stops if (at := written.find(stop)) >= 0]:
            self.stopped = True
            return self._show(written[: min(found)])
        return self._show(written[: len(written) - self._held(written)])

    def end(self) -> str:
        """No token will come any more: return what was held back."""
        return "" if self.stopped else self._show(self._decode(self.tokens).rstrip(_CUT))

    def _show(self, text: str) -> str:
        if len(text) <= len(self.text):
            return ""
        fresh, self.text = text[len(self.text) :], text
        return fresh

    def _held(self, written: str) -> int:
        """Characters at the end that may still turn into something else: a cut character, or a stop string's start."""
        cut = len(written) - len(written.rstrip(_CUT))
        whole = written[: len(written) - cut]
        starts = (size for stop in self._stops for size in range(1, len(stop)) if whole.endswith(stop[:size]))
        return cut + max(starts, default=0)
