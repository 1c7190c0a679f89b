"""A member that reads a reply written as bytes, in tokens of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from torch import Tensor

from local_models.fusion.reader import Reader
from local_models.fusion.vocabulary import Vocabulary
from local_models.transformers_engine import TransformersEngine

_LOOK_BACK = 8
"""Tokens before new text that are tokenised again with it, since they may join: the prompt's never are."""


class Follower:
    """`text` is the reply as this member has it: its ids always write exactly that.

    Members of one `family` have the same vocabulary, so that one can read another's very tokens.
    """

    def __init__(
        self, member: TransformersEngine, vocabulary: Vocabulary, prompt: Sequence[int], family: int = 0
    ) -> None:
        self.vocabulary, self.name, self.family = vocabulary, member.name, family
        self._reader = Reader(member, prompt)
        self._prompt = len(prompt)
        self.text = b""

    @property
    def ids(self) -> list[int]:
        """The reply's ids."""
        return self._reader.ids[self._prompt :]

    @property
    def starts(self) -> list[int]:
        """Where each of the reply's tokens begins, in bytes, and where the reply ends."""
        return [0, *accumulate(len(self.vocabulary.pieces[token] or b"") for token in self.ids)]

    @property
    def device(self) -> Any:
        return self._reader.member.model.device

    @property
    def is_full(self) -> bool:
        return self._reader.is_full

    def follow(self, text: bytes) -> None:
        """Read `text` instead: what begins alike is kept, and its cache with it.

        Raises:
            InputError: a byte of it cannot be written in this vocabulary.
        """
        if text == self.text:
            return
        starts, ids = self.starts, self.ids
        same = _common(self.text, text)
        place = max(0, sum(end <= same for end in starts[1:]) - _LOOK_BACK)
        while place and starts[place] < len(text) and text[starts[place]] & 0xC0 == 0x80:
            place -= 1  # not in the middle of a character
        fresh = self.vocabulary.encode(text[starts[place] :])
        self._replace(place + _common(ids[place:], fresh), fresh, place)
        self.text = text
        assert self.vocabulary.written(self.ids) == text

    def copy(self, main: Follower) -> None:
        """Read what a member of the same family has, token for token."""
        self._replace(_common(self.ids, main.ids), main.ids, 0)
        self.text = main.text

    def _replace(self, kept: int, ids: Sequence[int], start: int) -> None:
        """Keep the reply's first `kept` ids; from there on take those of `ids`, which stand for places from `start`."""
        self._reader.crop(self._prompt + kept)
        self._reader.ids += ids[kept - start :]

    def rewind(self, text: bytes) -> None:
        """Go back to `text`, where the reply began so: to one of its own tokens if it can be."""
        if self.text.startswith(text) and len(text) in self.starts:
            self.cut(len(text))
        else:
            self.follow(text)

    def write(self, piece: bytes) -> None:
        """Go on with a piece, as the one token that it is here, or as the tokens it takes."""
        token = self.vocabulary.ids.get(piece)
        self._reader.ids += [token] if token is not None else self.vocabulary.encode(piece)
        self.text += piece

    def append(self, token: int) -> None:
        self._reader.ids.append(token)
        self.text += self.vocabulary.pieces[token] or b""

    def cut(self, size: int) -> None:
        """Forget the reply from byte `size` on, which must be where one of the tokens begins."""
        self._reader.crop(self._prompt + self.starts.index(size))
        self.text = self.text[:size]

    def rows(self, count: int = 1) -> Tensor:
        """Log probabilities after each of the last `count` ids, folded: count V+1."""
        return self.vocabulary.folded(self._reader.rows(count))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many places two sequences begin alike."""
    size = min(len(one), len(other))
    return next((place for place in range(size) if one[place] != other[place]), size)
