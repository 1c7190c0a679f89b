"""A user's texts as windows of tokens: documents, a part of them held out, and rows of one length.

N windows, T tokens each.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eot.errors import InputError
from eot.text import counted

WINDOW = 256
HELD_OUT = 0.1
_PIECE_CHARACTERS = 2000
"""A plain text is cut at blank lines into documents of about this size: they are what is held out, or not."""
_SUFFIXES = frozenset({".txt", ".md", ".py", ".rst", ".jsonl"})


@dataclass(frozen=True)
class Corpus:
    """One domain: `taught` [N, T] and `held` [M, T] windows, from different `documents` (of either so many).

    `source` says of what.
    """

    name: str
    taught: Tensor
    held: Tensor
    source: str
    documents: tuple[int, int]

    def first(self, tokens: int) -> Tensor:
        """So many windows that are taught as have `tokens` tokens: [n, T]."""
        return self.taught[: max(1, -(-tokens // self.taught.shape[1]))]


def read_corpus(
    name: str,
    path: Path,
    tokenizer: Any,
    *,
    window: int = WINDOW,
    most: tuple[int | None, int | None] = (None, None),
    seed: int = 0,
) -> Corpus:
    """Read a domain's texts.

    Args:
        name: what reports call it.
        path: a text, a JSONL file with a "text" in each line, or a folder of such files.
        tokenizer: the base model's.
        window: tokens in a row.
        most: read no more tokens than this of what is taught, and of what is held out.
        seed: which documents are held out, and their order.

    Raises:
        InputError: it cannot be read, or is too short to train on and hold something out.
    """
    texts = documents(path)
    random.Random(seed).shuffle(texts)  # noqa: S311  (an order, not a secret)
    held = max(1, round(HELD_OUT * len(texts)))
    taught, read = _windows(texts[held:], tokenizer, window, most[0])
    apart, read_apart = _windows(texts[:held], tokenizer, window, most[1])
    if not (len(taught) and len(apart)):
        raise InputError(
            f"the corpus {name} in {path} is too short: {counted(len(texts), 'document')} cannot fill a window of "
            f"{window} tokens to learn from and another, of other documents, to be judged on"
        )
    return Corpus(name, taught, apart, path.name, (read, read_apart))


def read_text(path: Path, tokenizer: Any, *, window: int, most: int, seed: int = 0) -> Tensor:
    """Windows [N, T] of a text, of which nothing is held out: to make a gate from.

    Raises:
        InputError: it cannot be read, or does not fill one window.
    """
    texts = documents(path)
    random.Random(seed).shuffle(texts)  # noqa: S311  (an order, not a secret)
    found, _ = _windows(texts, tokenizer, window, most)
    if not len(found):
        raise InputError(f"the text {path} does not fill a window of {window} tokens; give more of it")
    return found


def documents(path: Path) -> list[str]:
    """The documents of a text, a JSONL file or a folder.

    Raises:
        InputError: nothing can be read there.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES) if path.is_dir() else [path]
    try:
        found = [text for file in files for text in _documents(file)]
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"the corpus {path} cannot be read: {fault}") from fault
    if not found:
        raise InputError(f"the corpus {path} has no text in it")
    return found


def _documents(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":
        yield from (
            _text_of(line, f"{file}, line {at}") for at, line in enumerate(text.splitlines(), 1) if line.strip()
        )
        return
    piece = ""
    for block in text.split("\n\n"):
        piece += ("\n\n" if piece else "") + block
        if len(piece) >= _PIECE_CHARACTERS:
            yield piece
            piece = ""
    if piece.strip():
        yield piece


def _text_of(line: str, place: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError) as fault:
        raise InputError(f'{place}: a row is {{"text": "..."}}') from fault
    if not isinstance(text, str):
        raise InputError(f"{place}: the text is no string")
    return text


def _windows(texts: Sequence[str], tokenizer: Any, window: int, most: int | None) -> tuple[Tensor, int]:
    """The documents one after another, each with its end token, cut into [N, T], and how many were read.

    What is left over is dropped.
    """
    ids: list[int] = []
    read = 0
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for read, text in enumerate(texts, start=1):  # noqa: B007  (how far it came is wanted)
        ids += tokenizer.encode(text, add_special_tokens=False) + end
        if most is not None and len(ids) >= max(most, window):
            break
    count = len(ids) // window if most is None else min(len(ids), max(most, window)) // window
    return torch.tensor(ids[: count * window], dtype=torch.long).view(count, window), read
