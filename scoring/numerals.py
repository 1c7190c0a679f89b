"""Numbers as people and models write them: digits, Chinese numerals and English words, as exact fractions.

A percent sign is a unit like any other: "50%", "百分之五十" and "50" are the same number, as they are in the answer
keys of the usual benchmarks. Digits and exponents are bounded, so that no text can make the arithmetic slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from scoring import chinese_numerals, english_numerals

MAX_DIGITS = 100
"""Longer digit strings and larger exponents are not read as numbers."""


class Number(NamedTuple):
    """A number and where it stands in the text."""

    start: int
    end: int
    value: Fraction


_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_WRITTEN = re.compile(
    rf"""(?<![A-Za-z0-9_./])
    (?P<sign>(?<![\w)\]%])-(?=[$€£¥]?[.0-9])|(?<==[ ])-[ ]|\b(?:minus|negative)[ ]|负)?
    [$€£¥]?[ ]?(?:(?<=[$€£¥])-|(?<=[$€£¥][ ])-)?
    (?P<number>{_DIGITS})
    (?:(?:[ ]|[ ]?and[ ])(?P<top>[0-9]+)/(?P<bottom>[0-9]+)(?![0-9/])
      |[ ]?/[ ]?(?P<over>{_DIGITS})(?![0-9/])
      |[eE](?P<exponent>[+-]?[0-9]+)(?![0-9])
      |[ ]?[x×*·][ ]?10[ ]?\^[ ]?\{{?(?P<power>-?[0-9]+)\}}?
      |\^\{{?(?P<raised>[0-9]+)\}}?
      |[ ]?(?P<scale>thousand|million|billion|trillion|dozen)\b
      |(?P<kilo>[kK])\b
    )?""",
    re.VERBOSE | re.IGNORECASE,
)
_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}


def digit_numbers(text: str) -> Iterator[Number]:
    """Numbers written with digits, in the order of the text: 1,234  3/4  1 1/2  -$3.50  1.5e3  2 x 10^3  3 million."""
    for match in _WRITTEN.finditer(text):
        value = _value(match)
        if value is not None:
            yield Number(match.end() - len(match[0].lstrip()), match.end(), value)


def _value(match: re.Match[str]) -> Fraction | None:
    value = _plain(match["number"])
    if value is None:
        return None
    negative = match["sign"] or "-" in match[0][: match.start("number") - match.start()]
    value = _scaled(value, match)
    return -value if negative and value is not None else value


def _scaled(value: Fraction, match: re.Match[str]) -> Fraction | None:
    """The number with whatever was written behind it: a fraction, a power, or a word like "million"."""
    if match["over"] or match["bottom"]:
        top, bottom = _plain(match["top"] or "0"), _plain(match["over"] or match["bottom"])
        if top is None or not bottom:
            return None
        return value / bottom if match["over"] else value + top / bottom
    if exponent := match["exponent"] or match["power"]:
        return value * Fraction(10) ** int(exponent) if _is_small(exponent) else None
    if raised := match["raised"]:
        small = len(raised) <= 3 and int(raised) * len(match["number"]) <= MAX_DIGITS
        return value ** int(raised) if small else None
    if match["kilo"]:
        return value * 1000
    return value * _SCALE[match["scale"].casefold()] if match["scale"] else value


def _is_small(exponent: str) -> bool:
    return len(exponent) <= 5 and abs(int(exponent)) <= MAX_DIGITS


def _plain(digits: str) -> Fraction | None:
    digits = digits.replace(",", "")
    if len(digits) > MAX_DIGITS:
        return None
    return Fraction(digits) if "." in digits else Fraction(int(digits))


def word_numbers(text: str) -> list[Number]:
    """Numbers written in Chinese numerals (also mixed: 3万5千) or English words, in the order of the text."""
    found = [*_spotted(chinese_numerals.PATTERN, chinese_numerals.value, text)]
    found += _spotted(english_numerals.PATTERN, english_numerals.value, text)
    return sorted(found)


def _spotted(pattern: re.Pattern[str], read: Callable[[str], Fraction | None], text: str) -> Iterator[Number]:
    for match in pattern.finditer(text):
        value = read(match[0])
        if value is not None:
            yield Number(match.start(), match.end(), value)


def numbers(text: str) -> list[Number]:
    """Every number, however written, in the order of the text. Where two readings overlap the longer one is kept."""
    found = sorted([*digit_numbers(text), *word_numbers(text)], key=lambda number: (number.start, -number.end))
    kept: list[Number] = []
    for number in found:
        if kept and number.start < kept[-1].end:
            if number.end - number.start > kept[-1].end - kept[-1].start:
                kept[-1] = number
            continue
        kept.append(number)
    return kept


def shortest(value: Fraction) -> str:
    """The shortest decimal string of this value: "18", "0.75", "-3".

    A fraction is rounded to 12 significant digits, so that 201.89999999999998 is 201.9 and 25/3 is 8.33333333333.
    """
    if value.denominator == 1:
        return str(value.numerator)
    precision = max(12, len(str(abs(int(value)))) + 2)
    rounded = Context(prec=precision).divide(Decimal(value.numerator), Decimal(value.denominator))
    digits = format(rounded, "f")
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) or "0"
