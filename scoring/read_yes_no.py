"""Reading "yes" or "no", in English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Mapping

from scoring.plain import sentences
from scoring.statements import refuses, statements

_NO = (
    r"not\s(?:true|correct|right|yes)|(?:is|are|was|does|do|did|can|could|wo|would)n't"
    r"|no|nope|false|incorrect|wrong|untrue"
)
_NO_CHINESE = "不是|不对|不正确|不能|不会|不可以|不可能|不行|没有|错误|错|否|不"
_YES = r"yes|yeah|yep|true|correct|right"
_YES_CHINESE = "是的|是|对|正确|能|会|可以|可能|有"
_WORD = re.compile(
    rf"\b(?P<no>{_NO})\b|\b(?P<yes>{_YES})\b|(?P<no_chinese>{_NO_CHINESE})|(?P<yes_chinese>{_YES_CHINESE})",
    re.IGNORECASE,
)
# A lone "no" or 是 inside a sentence is a determiner or a copula; these are not.
_JUDGEMENT = re.compile(
    r"\b(?P<no>not\s(?:true|correct)|false|incorrect|untrue)\b|\b(?P<yes>true|correct)\b"
    r"|[,:]\s?(?:so\s|then\s)?(?:(?P<last_no>no)|(?P<last_yes>yes))[.!]?$"
    r"|(?P<no_chinese>不正确|不对|错误)|(?P<yes_chinese>正确)",
    re.IGNORECASE,
)
_UNDECIDED = re.compile(r"\byes\s?(?:or|and|/)\s?no\b", re.IGNORECASE)
_OPENS = re.compile(
    rf"\W*(?:(?P<no>no|nope|false|{_NO_CHINESE})|(?P<yes>yes|true|correct|{_YES_CHINESE})的?)(?=[\s,.!;:。、-]|$)",
    re.IGNORECASE,
)


def read_yes_no(prose: str, _: Mapping[str, str]) -> str | None:
    """What the reply states, else the judgement of its last sentence, else the word that it opens with."""
    for statement in statements(prose, "yesno"):
        if refuses(f"{statement.lead} {statement.body}") or _UNDECIDED.search(statement.body):
            return None
        if found := yes_or_no(statement.body):
            return found
    parts = sentences(prose)
    if refuses(parts[-1]) or _UNDECIDED.search(parts[-1]):
        return None
    return _polarity(_OPENS.match(parts[-1])) or _last_judgement(parts[-1]) or _polarity(_OPENS.match(parts[0]))


def yes_or_no(text: str) -> str | None:
    """The first word of yes or no in an answer that stands alone: "True", "Yes, it is", "不是", "not correct"."""
    return _polarity(_WORD.search(sentences(text)[0]))


def _last_judgement(sentence: str) -> str | None:
    return _polarity(next(reversed(list(_JUDGEMENT.finditer(sentence))), None))


def _polarity(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    name = next(name for name, text in match.groupdict().items() if text)
    return "no" if "no" in name else "yes"
