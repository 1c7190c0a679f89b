"""The names of the votes. In a file of its own, because what computes them imports numpy, which takes a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from eot.types import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNALS = ("emb_a_s", "word_a_f", "char_a_f")
BY_SIMILARITY = (*SIGNALS, "sum")
METHODS = ("auto", "majority", "confidence", *BY_SIMILARITY)

Embed = Callable[[Sequence[str]], "NDArray[Any]"]
"""Texts to vectors, [n] -> float[n, d]. Slow: call what uses it in a thread."""


def wants_embedding(method: str, kind: Kind) -> bool:
    """Whether a vote compares meanings too: `auto` does for open answers alone, words and characters do for others."""
    return method in ("emb_a_s", "sum") or (method == "auto" and kind == "open")
