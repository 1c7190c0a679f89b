"""What each token of a tokenizer writes, as bytes: the ground on which models with different vocabularies meet.

A piece of text may end in the middle of a character, so text between models is bytes, never str.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.transformers_engine import TransformersEngine

END = b""
"""The piece that every end token of every model stands for: nothing is written, and the reply is over."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class Vocabulary:
    """The tokens of one model. `pieces[id]` is what the token writes, or None for one that writes nothing of its own.

    `ends` are the ids that end a reply. Behind the last id stands one more place, for `END`.
    """

    def __init__(self, tokenizer: Any, ends: frozenset[int], name: str) -> None:
        self.name, self.ends = name, ends
        self._writer = _writer_of(tokenizer)
        surface = _surface_of(tokenizer, name)
        keys = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
        added = tokenizer.added_tokens_decoder
        self._control = {token_id: str(token) for token_id, token in added.items() if token.special}
        self.keys: list[str | None] = [keys.get(token_id) for token_id in range(max(keys) + 1)]
        self.pieces: list[bytes | None] = [
            None
            if key is None or token_id in self._control or token_id in ends
            else (key.encode() if token_id in added and surface is _byte_level else surface(key))
            for token_id, key in enumerate(self.keys)
        ]

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The id that writes a piece; where several do, an ordinary token before a single byte's."""
        found: dict[bytes, int] = {}
        for token_id, piece in enumerate(self.pieces):
            if piece and (piece not in found or _BYTE_TOKEN.fullmatch(self.keys[found[piece]] or "")):
                found[piece] = token_id
        return found

    @cached_property
    def surfaces(self) -> list[bytes | None]:
        """`pieces`, and `END` behind them: what stands at each place of `folded`."""
        return [*self.pieces, END]

    def first_difference(self, other: Vocabulary) -> str | None:
        """Say where two id maps part, or None where they are the same byte for byte."""
        for token_id, (mine, theirs) in enumerate(zip_longest(self._written, other._written)):
            if mine != theirs:
                return f"id {token_id:,} is {_shown(mine)} in {self.name} and {_shown(theirs)} in {other.name}"
        return None

    @cached_property
    def _written(self) -> list[bytes | str | None]:
        return [self._control.get(token_id, piece) for token_id, piece in enumerate(self.pieces)]

    def written(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.pieces[token_id] or b"" for token_id in ids)

    def encode(self, data: bytes) -> list[int]:
        """Ids that write exactly `data`: the tokenizer's own where it is faithful, else the longest pieces in turn.

        Raises:
            InputError: some byte of it cannot be written in this vocabulary at all.
        """
        cut = _whole(data)
        return [*self._encode_text(data[:cut]), *self._longest(data[cut:])]

    def _encode_text(self, data: bytes) -> list[int]:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return self._longest(data)
        ids: list[int] = self._writer.encode(text, add_special_tokens=False).ids
        return ids if self.written(ids) == data else self._longest(data)

    def _longest(self, data: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(data):
            sizes = range(min(self._widest, len(data) - at), 0, -1)
            size = next((size for size in sizes if data[at : at + size] in self.ids), 0)
            if not size:
                raise InputError(
                    f"{self.name} has no token for the byte 0x{data[at]:02X}, so it cannot follow the text"
                )
            ids.append(self.ids[data[at : at + size]])
            at += size
        return ids

    @cached_property
    def _widest(self) -> int:
        return max(map(len, self.ids))

    def folded(self, logits: Tensor) -> Tensor:
        """Logits (... head, of any dtype) to fp32 log probabilities (... V+1): control tokens out, all ends in one."""
        size = len(self.pieces)
        rows = logits[..., :size].float()
        if rows.shape[-1] < size:
            rows = torch.nn.functional.pad(rows, (0, size - rows.shape[-1]), value=-torch.inf)
        mute, ends = (places.to(rows.device) for places in self._places)
        end = rows[..., ends].logsumexp(-1, keepdim=True) if len(ends) else torch.full_like(rows[..., :1], -torch.inf)
        return torch.cat([rows.index_fill(-1, mute, -torch.inf), end], dim=-1).log_softmax(-1)

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        mute = [token_id for token_id, piece in enumerate(self.pieces) if not piece]
        return torch.tensor(mute, dtype=torch.long), torch.tensor(sorted(self.ends), dtype=torch.long)


def vocabulary_of(member: TransformersEngine) -> Vocabulary:
    """A member's vocabulary, which takes a second to make: all sets that it sits in share one."""
    if member not in _MADE:
        _MADE[member] = Vocabulary(member.tokenizer, member.ends, member.name)
    return _MADE[member]


_MADE: WeakKeyDictionary[TransformersEngine, Vocabulary] = WeakKeyDictionary()


def _writer_of(tokenizer: Any) -> Any:
    """A tokenizer of our own that takes control tokens' names for text.

    A copy, since that is a switch: prompts are encoded meanwhile, by another thread and with control tokens.
    """
    writer = copy.deepcopy(tokenizer.backend_tokenizer)
    writer.no_truncation()
    writer.no_padding()
    writer.encode_special_tokens = True
    return writer


def _whole(data: bytes) -> int:
    """Where the last character that may still be cut begins: bytes before it are whole characters, if any text is."""
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead >= 0xC0:
            need = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return len(data) - back if need > back else len(data)
        if lead < 0x80:
            break
    return len(data)


def _surface_of(tokenizer: Any, name: str) -> Any:
    """The function from a vocabulary's key to the bytes it writes."""
    decoder = str(getattr(tokenizer, "backend_tokenizer", tokenizer).decoder)
    if "ByteLevel" in decoder:
        return _byte_level
    if "ByteFallback" in decoder or "Metaspace" in decoder:
        return _sentence_piece
    raise InputError(f"the tokenizer of {name} is neither byte-level nor SentencePiece: what it writes is not known")


def _byte_level(key: str) -> bytes:
    try:
        return bytes(_BYTES[letter] for letter in key)
    except KeyError:
        return key.encode()


def _sentence_piece(key: str) -> bytes:
    if found := _BYTE_TOKEN.fullmatch(key):
        return bytes([int(found[1], 16)])
    return key.replace("\u2581", " ").encode()


def _printable() -> dict[str, int]:
    """GPT-2's table: each byte as a character that can be seen; those that cannot are moved past 255."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(moved)}


_BYTES = _printable()


def _shown(written: bytes | str | None) -> str:
    return (
        "nothing"
        if written is None
        else repr(written.decode(errors="replace") if isinstance(written, bytes) else written)
    )
