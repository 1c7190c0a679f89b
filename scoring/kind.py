"""What kind of answer a question asks for, and the options written into its text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from eot.types import Kind
from scoring.plain import plain, sentences

_OPTION = re.compile(r"(?:(?<=^)|(?<=\s))(?:\((?P<a>[A-J])\)|(?P<b>[A-J])[.):、])\s?")
_NUMBER = re.compile(
    r"""\bhow\ (?:many|much|old|far|long|tall|big|large|deep|wide|high|fast|heavy)\b
    |\b(?:what|which|find|calculate|compute|determine)\b.{0,40}\b(?:number|sum|total|difference|product|average|mean|
      percent|percentage|price|cost|value|area|volume|perimeter|ratio|probability|remainder|age|ages|speed|profit|amount|distance|fraction|
      score|length|width|height|depth|weight|weights|largest|smallest)\b
    |\b(?:calculate|compute|evaluate)\b|[0-9]\s?[-+*/×÷^]\s?[0-9][^a-z]*[=?]
    |\bwhat(?:'s|\ is)\s+[0-9(]
    |多少|几(?![乎何种])|等于|计算|求(?![助职])""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_YES_NO = re.compile(
    r"\byes\s?(?:or|/)\s?no\b|\btrue\s?(?:or|/)\s?false\b|是否|是不是|对吗|对不对|能不能|会不会|有没有|吗\s?\?*$",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(
    r"""(?:is|are|am|was|were|do|does|did|has|have|had|can|could|will|would|should|shall|may|might|must|
    isn't|aren't|wasn't|weren't|don't|doesn't|didn't|hasn't|haven't|can't|couldn't|won't|wouldn't)\b
    (?!\ (?:you|we)\ (?:please|kindly|write|explain|tell|give|describe|help|show|list|summari[sz]e|suggest|recommend|
    provide|translate|create|generate|compare|name|find|solve|calculate|compute)\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_REQUEST = re.compile(r"(?:can|could|will|would) (?:you|we)\b", re.IGNORECASE)
_OPEN_WORD = re.compile(
    r"\b(?:what|which|who|whom|whose|where|when|why|how)\b|什么|谁|哪|怎|为何|如何|几", re.IGNORECASE
)


def infer_kind(text: str, choices: Mapping[str, str] | None = None) -> Kind:
    """The kind of a question that does not name it: what it asks for in its last sentence."""
    if choices or choices_in(text):
        return "choice"
    asked = ([*sentences(plain(text))] or [""])[-1]
    if _YES_NO.search(asked):
        return "yesno"
    judged = asked.endswith("?") and " or " not in asked
    if judged and _AUXILIARY.match(asked):
        return "yesno"
    if _NUMBER.search(asked):
        return "number"
    if not judged:
        return "open"
    clause = _AUXILIARY.match(asked.rpartition(", ")[2])
    statement = asked.isascii() and not _OPEN_WORD.search(asked) and not _REQUEST.match(asked)
    return "yesno" if clause or statement else "open"


_BARE_NUMBER = re.compile(r"[-+]?\$?(?:[0-9][0-9,]*)?\.?[0-9]+%?")


def kind_with_gold(text: str, choices: Mapping[str, str], gold: str) -> Kind:
    """The kind of a question that does not name it but comes with its answer, which says more than the wording."""
    inferred = infer_kind(text, choices)
    if inferred == "choice":
        return inferred
    if _BARE_NUMBER.fullmatch(gold.strip()):
        return "number"
    return "yesno" if gold.strip().casefold() in ("yes", "no", "true", "false") else inferred


def choices_in(text: str) -> dict[str, str]:
    """The options that a question lists as "(A) ... (B) ..." or "A. ... B. ...", from A on; {} if it lists none."""
    found: list[re.Match[str]] = []
    for mark in _OPTION.finditer(text):
        if (mark["a"] or mark["b"]) == "ABCDEFGHIJ"[len(found) : len(found) + 1]:
            found.append(mark)
    if len(found) < 2:
        return {}
    ends = [mark.start() for mark in found[1:]] + [len(text)]
    options = (text[mark.end() : end].strip().rstrip(",;") for mark, end in zip(found, ends, strict=True))
    return {mark["a"] or mark["b"]: option for mark, option in zip(found, options, strict=True)}
