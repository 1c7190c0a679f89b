"""Numbers in every spelling that models use."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.numerals import MAX_DIGITS, numbers, shortest


def read(text: str) -> list[str]:
    return [shortest(number.value) for number in numbers(text)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", "18"),
        ("18.0", "18"),
        ("$18", "18"),
        ("1,234", "1234"),
        ("12,345,678.50", "12345678.5"),
        ("3/4", "0.75"),
        ("1 1/2", "1.5"),
        ("15 and 2/3", "15.6666666667"),
        (".5", "0.5"),
        ("-3", "-3"),
        ("-$3.50", "-3.5"),
        ("$-3", "-3"),
        ("minus 3", "-3"),
        ("1e3", "1000"),
        ("2.5E-3", "0.0025"),
        ("1.5 x 10^3", "1500"),
        ("10^3", "1000"),
        ("50%", "50"),
        ("2 million", "2000000"),
        ("1.2k", "1200"),
    ],
)
def test_digits_are_read_by_value(text: str, value: str) -> None:
    assert read(text) == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("十", "10"),
        ("十八", "18"),
        ("二十一", "21"),
        ("一百零五", "105"),
        ("三百五", "350"),
        ("三百五十", "350"),
        ("一千零一", "1001"),
        ("两千", "2000"),
        ("两万三", "23000"),
        ("两万三千", "23000"),
        ("十万零五百", "100500"),
        ("一亿二千万", "120000000"),
        ("二〇二五", "2025"),
        ("三点一四", "3.14"),
        ("一点五亿", "150000000"),
        ("负三", "-3"),
        ("四分之三", "0.75"),
        ("百分之五十", "50"),
        ("半", "0.5"),
        ("一半", "0.5"),
        ("两个半", "2.5"),
        ("3万5千", "35000"),
        ("1.5亿", "150000000"),
        ("壹佰贰拾", "120"),
        ("一萬", "10000"),
    ],
)
def test_chinese_numerals_are_read_by_value(text: str, value: str) -> None:
    assert read(text) == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("twelve", "12"),
        ("Twenty-one", "21"),
        ("sixteen", "16"),
        ("one hundred and five", "105"),
        ("two thousand three hundred", "2300"),
        ("one million two hundred thousand and six", "1200006"),
        ("two and a half", "2.5"),
        ("three quarters", "0.75"),
        ("half", "0.5"),
        ("half a million", "500000"),
        ("a dozen", "12"),
        ("minus two", "-2"),
    ],
)
def test_english_words_are_read_by_value(text: str, value: str) -> None:
    assert read(text) == [value]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5-3", ["5", "3"]),
        ("5 - 3", ["5", "3"]),
        ("100, 200 and 300", ["100", "200", "300"]),
        ("x2 and H2O", []),
        ("1/0", []),
        ("一共十八个", ["18"]),
        ("第三个", []),
        ("someone often wrote tents", []),
    ],
)
def test_what_only_looks_like_a_number_or_a_sign_is_left_alone(text: str, found: list[str]) -> None:
    assert read(text) == found


@pytest.mark.parametrize("text", ["9" * 1_000, "1e999999999", "1e-999999999", "9^999999", "2 x 10^99999", "99^9999"])
def test_a_number_too_large_to_compute_with_is_no_number(text: str) -> None:
    assert all(len(value) <= 2 * MAX_DIGITS for value in read(text))
    assert not any(value.startswith("9" * 50) for value in read(text))


def test_rounding_noise_of_floats_does_not_make_a_new_number() -> None:
    assert read("201.89999999999998") == read("201.9")
    assert shortest(Fraction(25, 3)) == "8.33333333333"


@given(st.integers(-(10**30), 10**30))
def test_every_integer_comes_back_with_and_without_separators(value: int) -> None:
    assert read(f"{value}") == read(f"{value:,}") == [str(value)]


@given(st.decimals(min_value=-(10**6), max_value=10**6, places=4, allow_nan=False))
def test_every_decimal_comes_back_by_value(value: object) -> None:
    assert [Fraction(found) for found in read(f"{value:f}")] == [Fraction(str(value))]


_ONES = "零一二三四五六七八九"


def spelled(value: int) -> str:
    """A Chinese numeral below 10,000, written by the rules of the school book."""
    text, zero = "", False
    for unit, size in (("千", 1000), ("百", 100), ("十", 10), ("", 1)):
        digit, value = divmod(value, size)
        if digit:
            text += ("零" if zero and text else "") + _ONES[digit] + unit
        zero = not digit
    return text


@given(st.integers(1, 9999), st.integers(0, 9999))
def test_every_chinese_numeral_below_a_hundred_million_comes_back(high: int, low: int) -> None:
    below = ("零" if low < 1000 else "") + spelled(low) if low else ""
    # 一十八 is said 十八, but both must be read; a lone digit after 万 needs its 零, which the rule above writes
    assert read(f"{spelled(high)}万{below}") == [str(high * 10_000 + low)]
    assert read(spelled(high)) == [str(high)]
