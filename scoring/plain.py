"""A model's reply as plain text: a bounded tail of it, without LaTeX, Markdown and typographic variants."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

TAIL = 20_000
"""Characters that are read from the end of a reply; an answer stands at the end, and 10 MB must cost nothing."""

_VULGAR = re.compile("(?<=[0-9])(?=[¼½¾⅐-⅞])")
_LOOKALIKES = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "﹣": "-", "⁄": "/", "∕": "/", "，": ", ", "’": "'", "\u00a0": " "}
)
_REPLACED: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"<<[^<>\n]{0,200}>>", ""),  # the calculator notes of GSM8K's solutions
        (r"</?[a-z]{1,12}>", " "),  # <b>, </answer>
        (r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|operatorname)\s?\{([^{}\n]{0,500})\}", r"\1"),
        (r"\\[dt]?frac\s?\{([^{}\n]{1,100})\}\s?\{([^{}\n]{1,100})\}", r"\1/\2"),
        (r"\\times\b|\\cdot\b", "×"),
        (r"\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])", ""),
        (r"\\[,;:! ]|\{,\}(?=[0-9])|\^\{?\\circ\}?|°", lambda found: "," if found[0] == "{,}" else " "),
        (r"\\[()\[\]]|\\?\$(?![0-9.\s-])|(?<=[0-9}])\$", " "),
        (r"\\([$%#&_])", r"\1"),
        # 2**3 is a power, **3** is bold
        (r"(?<![0-9])\*\*|\*\*(?![0-9])|(?<!\w)__|__(?!\w)|`", ""),
        (r"\\(?:boxed|fbox)\s?\{((?:[^{}\n]|\{[^{}\n]{0,100}\}){0,300})\}", "\nanswer: \\1\n"),
        (r"[^\S\n]+", " "),
    )
)


def plain(text: str) -> str:
    r"""The last 20,000 characters as text that patterns can read. `\boxed{18}` becomes a line "answer: 18".

    Full-width characters become ASCII, every dash a hyphen. Takes any str, in time linear in the bound.
    """
    text = _VULGAR.sub(" ", text.rstrip()[-TAIL:]).translate(_LOOKALIKES)
    text = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES)[-TAIL:]  # NFKC makes 18 letters of one ﷺ
    for pattern, new in _REPLACED:
        text = pattern.sub(new, text)
    return text.strip()


_SENTENCE = re.compile(r"(?<=[.!?;])(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)\s+|(?<=。)|\n")


def sentences(prose: str) -> list[str]:
    """The sentences of plain text, in order, without empty ones; a new line ends a sentence too."""
    return [sentence.strip() for sentence in _SENTENCE.split(prose) if sentence.strip()]
