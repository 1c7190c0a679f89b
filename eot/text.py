"""Text that comes from outside, before anything is done with it: what cannot be sent, and what must not be shown."""

from __future__ import annotations

import re

MAX_CHARACTERS = 200_000
"""The longest question, with its context, that is taken: past it no catalogue model could read it anyway."""

# Tags (U+E0000..), variation selectors, soft hyphens, fillers, zero-width and bidirectional marks: invisible carriers
# of instructions. The two zero-width joiners stay: words of several scripts, and emoji, are written with them.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# All of categories Cc and Cs but tab and newline.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def fault_in(text: str) -> str:
    """Say what keeps this text from being sent to a model, or return "" when nothing does."""
    if (at := text.find("\0")) >= 0:
        return f"character {at:,} is a NUL, which no model can read; remove it"
    if found := _SURROGATE.search(text):
        code = ord(found.group())
        return f"character {found.start():,} is a lone surrogate (U+{code:04X}); the text is not valid Unicode"
    return ""


def counted(number: int, noun: str) -> str:
    """`1 expert`, `2 experts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clean(text: str) -> str:
    """A model's text made safe to quote and to print: no control, escape, surrogate or invisible characters."""
    return _CONTROL.sub("", _INVISIBLE.sub("", text))
