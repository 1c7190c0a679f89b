"""A long conversation made short: one agent sums it up, and the summary goes on in the conversation's place."""

from __future__ import annotations

import base64
import binascii
import zlib

from eot.errors import QuestionError
from eot.text import MAX_CHARACTERS
from eot.types import Message

_MARK = b"eot1"
_INSTRUCTIONS = (
    "You are given a conversation. Write a summary of it with which somebody who has not read it can go on with it: "
    "what is wanted, what was found out and decided, names, numbers and other details that may be needed, what was "
    "done with tools, and what is still open. Write nothing but the summary."
)
_HEADING = "Summary of the conversation before this:\n"


def prompt_for(transcript: str) -> tuple[Message, ...]:
    """What the agent is asked who sums up."""
    return Message(role="system", content=_INSTRUCTIONS), Message(role="user", content=transcript)


def write_compaction(summary: str) -> str:
    """The summary as clients carry it. It is packed, not encrypted: there is nothing in it to hide from who sent it."""
    return base64.b64encode(_MARK + zlib.compress(summary.encode())).decode("ascii")


def read_compaction(content: str) -> str:
    """What a compaction says, for the agents.

    Raises:
        QuestionError: it was not made here, or is longer than any question may be.
    """
    try:
        packed = base64.b64decode(content, validate=True)
        unpacking = zlib.decompressobj()
        summary = unpacking.decompress(packed.removeprefix(_MARK), MAX_CHARACTERS * 4).decode()
    except (binascii.Error, ValueError, zlib.error):
        packed, summary = b"", ""
    if not packed.startswith(_MARK) or not summary or unpacking.unconsumed_tail:
        raise QuestionError("a compaction in the input was not made by this service, or is damaged: leave it out")
    return _HEADING + summary
