"""Reading which option a reply chooses: by its letter, or by its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from scoring.numerals import numbers, shortest
from scoring.plain import plain, sentences
from scoring.statements import statements

ANY_LETTER = tuple("ABCDEFGHIJ")
"""What counts as an option's letter when the options themselves were not handed in."""

_LOOK_BACK = 3


def read_choice(prose: str, choices: Mapping[str, str]) -> str | None:
    """The key of the chosen option. A letter that no option has is no answer."""
    prose = _without_denials(prose, choices).strip()
    if not prose:
        return None
    for statement in statements(prose, "choice"):
        if _is_undecided(statement.body, choices):
            return None
        if found := _stated(statement.body, choices):
            return found
    if _is_undecided(sentences(prose)[-1], choices):
        return None
    return _announced(prose, choices) or _concluded(prose, choices)


def choice_alone(prose: str, choices: Mapping[str, str]) -> str | None:
    """The option that an answer standing alone names: "B", "(b)", "option B", or the option's text."""
    if found := _stated(prose, choices):
        return found
    lone = prose.strip(" .()[]:")
    return lone.upper() if not choices and lone.isalnum() and len(lone) <= 3 else None


_SETTLES = re.compile(r"\b(?:but|not|rather|instead)\b", re.IGNORECASE)


def _is_undecided(body: str, choices: Mapping[str, str]) -> bool:
    """Whether two options are left open: "either (D) or (E)" chooses nothing."""
    named = {_key(match, choices) for match in _of(choices).bracketed.finditer(body)}
    return (
        len(named) > 1
        and re.search(r"\beither\b|\bor\b|或", body, re.IGNORECASE) is not None
        and not _SETTLES.search(body)
    )


def _without_denials(prose: str, choices: Mapping[str, str]) -> str:
    """The reply less "not B", "isn't (B)", "not a library": what is denied must not be found as if it were chosen."""
    options = [plain(option).strip(" .") for option in choices.values()]
    if any(_NOT.search(option) for option in options):  # an option that itself says "not ..."
        options = []
    return _denials(tuple(choices) or ANY_LETTER, tuple(filter(None, options))).sub("", prose)


_NOT = re.compile(r"\bnot\b|n't\b|不", re.IGNORECASE)


@lru_cache(maxsize=256)
def _denials(letters: tuple[str, ...], options: tuple[str, ...]) -> re.Pattern[str]:
    keys = "|".join(re.escape(letter) for letter in sorted(letters, key=len, reverse=True))
    texts = "|".join(re.escape(option) for option in sorted(options, key=len, reverse=True))
    named = r"(?i:(?:the )?(?:option|choice|answer|letter) |选项?|an? |the )?"
    chosen = rf"[(\[]?(?:{keys})(?:[)\]]|(?![\w'])(?! [a-z]))" + (
        rf"|(?i:{texts})(?![A-Za-z0-9]|\.[0-9])" if texts else ""
    )
    denies = r"(?i:\b(?:can)?not(?: be)? |n't(?: be)? |\brather than |\binstead of |不是 ?|不选 ?|而非 ?)"
    return re.compile(rf"{denies}{named}(?:{chosen})")


class _Patterns:
    """The patterns for one set of letters."""

    def __init__(self, letters: tuple[str, ...]) -> None:
        keys = "|".join(re.escape(letter) for letter in sorted(letters, key=len, reverse=True))
        # After a lower-case "a" a word may follow: then it is the article.
        end = r"(?![\w'])"
        named = r"(?:(?:the\s)?(?:option|choice|answer|letter)|选项|选择|选)"
        self.opens = re.compile(
            rf"[^\w]*(?:{named}\s?:?\s?)?[\[({{]?\s?(?P<key>{keys}){end}(?P<closed>[^\w\s]?)", re.IGNORECASE
        )
        self.announced = re.compile(
            rf"(?:\b(?:option|choice)\s?|\b(?:choose|pick|select|go\swith)\s(?:option\s)?|选项?|选择)\s?[(\[]?(?P<key>{keys})[)\]]?{end}"
            rf"|[(\[]?\b(?P<key2>{keys})[)\]]?\sis\s(?:the\s)?(?:correct|right|best|answer)",
            re.IGNORECASE,
        )
        self.bracketed = re.compile(rf"[(\[](?P<key>{keys})[)\]]|^(?P<key2>{keys})[.):]", re.IGNORECASE)
        self.standalone = re.compile(rf"(?<![\w'])(?P<key>{keys}){end}")


@lru_cache(maxsize=256)
def _patterns(letters: tuple[str, ...]) -> _Patterns:
    return _Patterns(letters)


def _of(choices: Mapping[str, str]) -> _Patterns:
    return _patterns(tuple(choices) or ANY_LETTER)


def _key(match: re.Match[str], choices: Mapping[str, str]) -> str:
    found = match["key"] or match["key2"] if "key2" in match.re.groupindex else match["key"]
    return next(letter for letter in tuple(choices) or ANY_LETTER if letter.casefold() == found.casefold())


def _stated(body: str, choices: Mapping[str, str]) -> str | None:
    """A letter at the head of what was stated, else the option whose text it holds."""
    match = _of(choices).opens.match(body)
    if match and _is_letter(match, body):
        return (_is_article(match, body) and _by_text(body, choices)) or _key(match, choices)
    return _by_text(body, choices) or _bracketed(body, choices)


def _is_letter(match: re.Match[str], body: str) -> bool:
    """Tell the option A from the article: "a bank" is no letter, "A.", "(a)" and a lone "a" are."""
    if match["key"] not in ("a", "i") or match["closed"]:
        return True
    return not body[match.end() :].strip()


def _is_article(match: re.Match[str], body: str) -> bool:
    """Whether a capital "A" may begin a sentence ("A revolving door is ...") rather than name an option."""
    follows = re.match(r"[a-z]+ (?<!because )(?<!since )", body[match.end() :].strip())
    return match["key"] == "A" and not match["closed"] and follows is not None


def _bracketed(text: str, choices: Mapping[str, str]) -> str | None:
    found = {_key(match, choices) for match in _of(choices).bracketed.finditer(text)}
    return found.pop() if len(found) == 1 else None


def _announced(prose: str, choices: Mapping[str, str]) -> str | None:
    """The last "option B", "I choose B", "选B" or "(B) is correct" of the reply's end."""
    found = None
    for sentence in sentences(prose)[-_LOOK_BACK:]:
        for match in _of(choices).announced.finditer(sentence):
            if (match["key"] or match["key2"]) not in ("a", "i"):
                found = _key(match, choices)
    return found


def _concluded(prose: str, choices: Mapping[str, str]) -> str | None:
    """How the reply ends: a letter in brackets or at the head of the line, a lone capital, an option's text."""
    for sentence in reversed(sentences(prose)[-_LOOK_BACK:]):
        match = _of(choices).opens.match(sentence)
        if match and _is_letter(match, sentence) and (match["closed"] or match.end() == len(sentence)):
            return _key(match, choices)
        if found := _bracketed(sentence, choices) or _by_text(sentence, choices) or _lone_capital(sentence, choices):
            return found
    return None


def _lone_capital(sentence: str, choices: Mapping[str, str]) -> str | None:
    found = [match["key"] for match in _of(choices).standalone.finditer(sentence)]
    # "A" and "I" begin sentences; at the end of one they are letters.
    said = [key for key in found if key not in ("A", "I") or sentence.rstrip(".!*) ").endswith(key)]
    return said[-1] if said else None


def _by_text(text: str, choices: Mapping[str, str]) -> str | None:
    """The one option whose text stands in `text`; an option inside a longer one that stands there does not count."""
    spans = {key: span for key, option in choices.items() if (span := _span(text, option))}
    free = [key for key, span in spans.items() if not any(_inside(span, other) for other in spans.values())]
    if len(free) == 1:
        return free[0]
    return None if free else _by_value(text, choices)


def _span(text: str, option: str) -> tuple[int, int] | None:
    words = " ".join(plain(option).casefold().split()).strip(" .,;:!?\"'")
    if not words:
        return None
    folded = text.casefold()
    at = -1
    while (at := folded.find(words, at + 1)) >= 0:
        before, after = folded[at - 1 : at], folded[at + len(words) : at + len(words) + 1]
        if not (_joins(before) and _joins(words[0])) and not (_joins(after) and _joins(words[-1])):
            return at, at + len(words)
    return None


def _joins(character: str) -> bool:
    """Whether a letter or digit here makes one word with its neighbour; Chinese words have no spaces between them."""
    return character.isalnum() and character.isascii()


def _inside(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span != other and other[0] <= span[0] and span[1] <= other[1]


def _by_value(text: str, choices: Mapping[str, str]) -> str | None:
    """Options that are numbers, by value: a reply that ends on "$67.4" chose "$67.40"."""
    said = [shortest(number.value) for number in numbers(text)]
    values = dict(_valued(choices))
    if not said or len(values) < len(choices):
        return None
    keys = [key for key, value in values.items() if value == said[-1]]
    return keys[0] if len(keys) == 1 else None


def _valued(choices: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, option in choices.items():
        found = numbers(plain(option))
        if len(found) == 1:
            yield key, shortest(found[0].value)
