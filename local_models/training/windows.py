"""A corpus as windows of exactly T tokens: documents end to end, with the end-of-text token between them, cut evenly.

Nothing is padded and nothing is lost but the last part window of each pass. Every 20th window is held out, the same
ones in each pass: the loss that is reported is on text that was not trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path

from eot.errors import InputError
from local_models.training.corpus import Passed, Piece, pieces

EVERY = 20
_SHUFFLED = 256
"""Windows that are mixed at a time: neighbours of one document should not make up one batch."""
Encode = Callable[[str], Sequence[int]]


def windows(text: Iterator[Piece], encode: Encode, end: int, length: int) -> Iterator[list[int]]:
    """Pack pieces into windows of `length` tokens; `end` follows each document."""
    waiting: list[int] = []
    for piece in text:
        waiting += encode(piece.text)
        if piece.ends:
            waiting.append(end)
        whole = len(waiting) // length * length
        for start in range(0, whole, length):
            yield waiting[start : start + length]
        del waiting[:whole]


def held_out(files: Sequence[Path], encode: Encode, end: int, length: int, most: int) -> list[list[int]]:
    """The first `most` windows that are never trained on.

    Raises:
        InputError: the corpus is too short for one window to train on and one to measure with.
    """
    all_ = windows(pieces(files, Passed()), encode, end, length)
    found = list(islice((window for at, window in enumerate(all_) if at % EVERY == 0), most))
    passed = Passed()
    if next(windows(pieces(files, passed), encode, end, 2 * length), None) is None:
        lines = f' ({passed.lines} lines have none: JSON lines are {{"text": ...}})' if passed.lines else ""
        raise InputError(
            f"the corpus has less than two windows of {length} tokens of text{lines}; bring more, or set --length"
        )
    return found


def trained_on(
    files: Sequence[Path], encode: Encode, end: int, length: int, seed: int, passed: Passed
) -> Iterator[list[int]]:
    """Windows without end: pass after pass over the corpus, each mixed anew. The same seed gives the same windows.

    `passed` is told what could not be used, in the first pass.
    """
    for epoch in count():
        shuffle = random.Random(f"{seed}.{epoch}").shuffle  # noqa: S311 - no secret
        all_ = windows(pieces(files, Passed() if epoch else passed), encode, end, length)
        kept = (window for at, window in enumerate(all_) if at % EVERY)
        while block := list(islice(kept, _SHUFFLED)):
            shuffle(block)
            yield from block
