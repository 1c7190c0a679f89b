"""Chinese numerals: 十八, 三百五, 两万三千, 二〇二五, 三点一四, 负三, 四分之三, 百分之五十, 3万5千, 1.5亿, 壹佰."""

from __future__ import annotations

import re
from fractions import Fraction

_FINANCIAL = str.maketrans(
    "壹贰叁肆伍陆柒捌玖拾佰仟萬億兩貳參陸點負〇两", "一二三四五六七八九十百千万亿二二三六点负零二"
)
_DIGIT = {"零": 0, "一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_UNIT = {"十": 10, "百": 100, "千": 1000}
_MYRIAD = {"万": 10**4, "亿": 10**8}
_LONGEST = 40

_NUMERAL = "零一二三四五六七八九十百千万亿〇两壹贰叁肆伍陆柒捌玖拾佰仟萬億兩貳參陸"
# 一 begins many words that count nothing (一共, 一起, 一样), and 第三 is an ordinal.
PATTERN = re.compile(
    rf"""(?<![第两\w])一?半(?!\w)|一半
    |(?<![第0-9.,{_NUMERAL}])(?!一(?:[共起样直般定些切下边旦致律]|点(?![{_NUMERAL}])))
    [负負]?(?:百分之)?
    (?:[0-9.]+(?=[十百千万亿萬億]))?[{_NUMERAL}][0-9.{_NUMERAL}]*
    (?:[点點][{_NUMERAL}]+[万亿]?)?
    (?:分之[{_NUMERAL}]+|个半)?
    """,
    re.VERBOSE,
)


def value(text: str) -> Fraction | None:
    """The value of one numeral that PATTERN matched, or None when its characters make no number."""
    text = text.translate(_FINANCIAL)
    if len(text) > _LONGEST:
        return None
    negative, text = text.startswith("负"), text.removeprefix("负").removeprefix("百分之")
    if text in ("半", "一半"):
        return Fraction(1, 2)
    halved, text = text.endswith("个半"), text.removesuffix("个半")
    bottom, parted, top = text.partition("分之")
    found = _decimal(bottom)
    if found is None:
        return None
    if parted:
        above = _decimal(top)
        if above is None or not found:
            return None
        found = above / found
    found += Fraction(1, 2) if halved else 0
    return -found if negative else found


def _decimal(text: str) -> Fraction | None:
    """A numeral with or without 点: 三点一四, 一点五亿."""
    whole, pointed, rest = text.partition("点")
    found = _whole(whole)
    if not pointed or found is None:
        return found
    scale = _MYRIAD.get(rest[-1:], 1)
    digits = rest if scale == 1 else rest[:-1]
    if not digits or any(digit not in _DIGIT for digit in digits):
        return None
    return (found + Fraction(int("".join(str(_DIGIT[digit]) for digit in digits)), 10 ** len(digits))) * scale


def _whole(text: str) -> Fraction | None:
    if all(character in _DIGIT for character in text):
        return Fraction("".join(str(_DIGIT[character]) for character in text)) if text else None
    for unit in ("亿", "万"):
        if unit in text:
            return _split(text, unit)
    return _below_myriad(text)


def _split(text: str, unit: str) -> Fraction | None:
    """两万三千 is 2 x 10,000 + 3,000; the spoken 两万三 leaves the last unit out and means the same."""
    high, _, low = text.rpartition(unit)
    above = _whole(high)
    below = Fraction(0) if not low else _whole(low)
    if above is None or below is None:
        return None
    spoken = len(low) == 1 and low in _DIGIT
    return above * _MYRIAD[unit] + (below * _MYRIAD[unit] / 10 if spoken else below)


def _below_myriad(text: str) -> Fraction | None:
    """Digits each with a unit: 三百五十, 3千5百; 三百五 is 350, 三百零五 is 305."""
    total, last_unit, zero = Fraction(0), 10**4, False
    for spelled, unit in re.findall(r"([0-9]+(?:\.[0-9]+)?|[零一二三四五六七八九]*)([十百千]?)", text):
        zero, number = "零" in spelled, spelled.lstrip("零")
        if not number and not unit:
            continue
        amount = _amount(number)
        size = _UNIT.get(unit, 0) or (1 if zero or last_unit in (10**4, 10) else last_unit // 10)
        if amount is None or size >= last_unit:
            return None
        total, last_unit = total + amount * size, size
    return total if last_unit < 10**4 else None


def _amount(number: str) -> Fraction | None:
    if not number:
        return Fraction(1)
    if number in _DIGIT:
        return Fraction(_DIGIT[number])
    return Fraction(number) if number[0].isascii() else None
