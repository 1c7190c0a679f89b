"""What answer a reply gives: a canonical string, or None when it cannot be read (an abstention, never a default).

Strict first (what the reply calls its answer), looser after (how it ends); the last match counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction

from eot.types import Kind
from scoring.json_answers import NoJsonError, canonical_json, json_in
from scoring.numerals import Number, digit_numbers, numbers, shortest
from scoring.plain import plain, sentences
from scoring.read_choice import choice_alone, read_choice
from scoring.read_yes_no import read_yes_no, yes_or_no
from scoring.statements import refuses, statements

Choices = Mapping[str, str]

_LOOK_BACK = 3
_HEDGE = re.compile(
    r"(?:\W|\b(?:about|approximately|around|roughly|exactly|only|a total of|x|约|大约|一共|共)\b|[约共])*",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"[^\w\n]{0,3}[-+*/×x÷=^]\s?[$(]?[0-9]")
_DENIED = re.compile(
    r"(?:(?:\b(?:can)?not|n't|\bnever|\brather than|\binstead of)"
    r"(?: (?:be|equal|to|exactly|simply|just|actually|really|the))*"
    r"|不是|不等于|不为|并非|而非)\W{0,3}$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[^\w\n]{0,3}(?:(?:is|was)(?:n't| not) (?:the )?(?:right|correct|final|answer)"
    r"|(?:is|was) (?:wrong|incorrect|false)|(?:是|为)?(?:错|不对|不正确))",
    re.IGNORECASE,
)
_LONGEST_DENIAL = 60
_CUT_OFF = re.compile(r"[=+*/×÷(<^-]$")
_CONCLUDES = re.compile(r"\b(?:so|therefore|thus|hence|is|are|has|have|will)\b|所以|因此|是|有")


def read_answer(text: str, kind: Kind, choices: Choices | None = None) -> str | None:
    """The answer in canonical form: "18", "0.75"; a key of `choices`; "yes" or "no"; folded text. None: unreadable.

    Only the last 20,000 characters are read, whatever they hold; nothing is raised.
    """
    if kind == "json":
        return _read_json(text)
    prose = plain(text)
    return _READERS[kind](prose, choices or {}) if prose else None


def canonical(answer: str, kind: Kind, choices: Choices | None = None) -> str | None:
    """An answer that stands alone ("$18.00", "(b)", "True") in canonical form, or None when it is none of its kind."""
    if kind == "json":
        return _read_json(answer)
    prose = plain(answer)
    return _CANONICAL[kind](prose, choices or {}) if prose else None


def same(a: str | None, b: str | None, kind: Kind) -> bool:
    """Whether two answers are equal: numbers by value, choices by letter, text by its folded form."""
    left, right = (None if answer is None else canonical(answer, kind) for answer in (a, b))
    return left is not None and left == right


def _read_json(text: str) -> str | None:
    try:
        return canonical_json(json_in(text))
    except NoJsonError:
        return None


def _read_number(prose: str, _: Choices) -> str | None:
    for statement in statements(prose, "number"):
        sentence = sentences(statement.body)[0]
        found = _stated_number(sentence)
        before = sentence if found is None else sentence[: found.start]
        if refuses(f"{statement.lead} {before}"):
            return None
        if found is not None:
            return shortest(found.value)
    return _last_number(prose)


def _stated_number(sentence: str) -> Number | None:
    """The number a statement opens with, unless a calculation begins there: then its result."""
    found = [number for number in numbers(sentence) if not _is_denied(sentence, number)]
    if not found:
        return None
    hedge = _HEDGE.match(sentence)
    opens = found[0].start <= (hedge.end() if hedge else 0)
    if opens and not ("=" in sentence and _OPERATOR.match(sentence, found[0].end)):
        return found[0]
    if "=" in sentence:
        return _concluding_number(sentence)
    return next((number for number in digit_numbers(sentence) if number in found), found[0])


def _is_denied(sentence: str, number: Number) -> bool:
    """Whether it is said of this number that it is not the answer: "not 18", "18 is wrong"."""
    before = _DENIED.search(sentence, max(0, number.start - _LONGEST_DENIAL), number.start)
    return bool(before or _DENIED_AFTER.match(sentence, number.end))


def _concluding_number(sentence: str) -> Number | None:
    """The result of the last calculation in the sentence, else its last number; digits count before words."""
    found = [number for number in digit_numbers(sentence) if not _is_denied(sentence, number)] or [
        number for number in numbers(sentence) if not (_is_denied(sentence, number) or _is_pronoun(sentence, number))
    ]
    after = [number for number in found if number.start > sentence.rfind("=")]
    if "=" in sentence and after and not _CONCLUDES.search(sentence, after[0].end):
        return after[0]
    return next(reversed(after or found), None)


def _is_pronoun(sentence: str, number: Number) -> bool:
    """A lone "one" at the end of a reply is more often a pronoun or an article ("that one", 一个人) than a number."""
    return sentence[number.start : number.end].casefold() in ("one", "一")


def _last_number(prose: str) -> str | None:
    if _CUT_OFF.search(prose):
        return None
    denied: set[Fraction] = set()  # further on in the reply
    for sentence in reversed(sentences(prose)[-_LOOK_BACK:]):
        if refuses(sentence):
            return None
        if found := _concluding_number(sentence):
            return None if found.value in denied else shortest(found.value)
        denied |= {number.value for number in numbers(sentence) if _is_denied(sentence, number)}
    return None


def _lone_number(prose: str, _: Choices) -> str | None:
    found = _stated_number(prose)
    return None if found is None else shortest(found.value)


def _read_open(prose: str, _: Choices) -> str | None:
    """What is stated in the last line, or in a line of its own; else the whole reply."""
    last = prose.rpartition("\n")[2]
    for statement in statements(prose, "open"):
        if statement.body in last or f"\n{statement.lead}" in f"\n{prose}":
            return folded(statement.body)
        break
    return folded(prose)


_WRAPPED = re.compile(r"""^(?:\((?P<a>[^()]*)\)|\[(?P<b>[^\[\]]*)\]|\{(?P<c>[^{}]*)\})$""")
_EDGE = " \n\t.,;:!?\"'*_`“”‘’「」『』《》。、…·~"


def folded(text: str) -> str | None:
    """Free text for comparing: NFKC and casefold, white space collapsed, edge punctuation and a leading article off."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_EDGE)
    if wrapped := _WRAPPED.match(text):
        text = (wrapped["a"] or wrapped["b"] or wrapped["c"] or "").strip(_EDGE)
    return re.sub(r"^(?:the|an?) (?=\S)", "", text) or None


_READERS: Mapping[Kind, Callable[[str, Choices], str | None]] = {
    "number": _read_number,
    "choice": read_choice,
    "yesno": read_yes_no,
    "open": _read_open,
}
_CANONICAL: Mapping[Kind, Callable[[str, Choices], str | None]] = {
    "number": _lone_number,
    "choice": choice_alone,
    "yesno": lambda prose, _: yes_or_no(prose),
    "open": lambda prose, _: folded(prose),
}
