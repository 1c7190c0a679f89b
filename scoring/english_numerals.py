"""English number words: twelve, twenty-one, one hundred and five, two and a half, three quarters, half, a dozen."""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: value for value, word in enumerate(_UNITS + _TEENS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_PART = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
    "fifth": 5, "fifths": 5}  # fmt: skip

_small = rf"(?:(?:{'|'.join(_TENS)})(?:[ -](?:{'|'.join(_UNITS[1:])}))?|{'|'.join(_TEENS)}|{'|'.join(_UNITS)})\b"
_group = rf"(?:(?:{_small}|a)\ hundred(?:\ (?:and\ )?{_small})?|{_small})"
_scale = rf"(?:{'|'.join(_SCALE)})\b"
_part = rf"(?:{'|'.join(_PART)})\b"
PATTERN = re.compile(
    rf"""\b(?:(?:minus|negative)\ )?(?:
      (?:{_group}|an?)[ -]{_part}
      |half(?:\ an?)?(?:\ {_scale})?
      |(?:{_group}|a)\ {_scale}(?:,?\ (?:and\ )?{_group}\ {_scale}){{0,4}}(?:,?\ (?:and\ )?{_group})?(?:\ and\ a\ half)?
      |{_group}(?:\ and\ a\ half|\ and\ an?\ {_part})?
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)


def value(text: str) -> Fraction | None:
    """The value of one phrase that PATTERN matched."""
    words = re.findall(r"[a-z]+", text.casefold())
    negative = words[0] in ("minus", "negative")
    found = _sum([word for word in words if word not in ("minus", "negative", "and")])
    return -found if negative else found


def _sum(words: list[str]) -> Fraction:
    """Add group by group: "two million three hundred thousand five" is 2 x 10^6 + 300 x 10^3 + 5."""
    total, group, seen = Fraction(0), Fraction(0), False
    for at, word in enumerate(words):
        if word in _SMALL:
            group, seen = group + _SMALL[word], True
        elif word == "hundred":
            group, seen = (group if seen else 1) * Fraction(100), True
        elif word in _SCALE:
            total, group, seen = total + (group if seen else 1) * _SCALE[word], Fraction(0), False
        elif word in _PART:
            after_article = at > 0 and words[at - 1] in ("a", "an")
            if seen and not after_article:
                group /= _PART[word]
            elif at == 0 or after_article:
                group, seen = group + Fraction(1, _PART[word]), True
    return total + group
