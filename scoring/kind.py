"""What kind of answer a question asks for, and the options written into its text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from eot.types import Kind
from scoring.asks_number import asks_number
from scoring.plain import plain, sentences

_OPTION = re.compile(r"(?:(?<=^)|(?<=\s)|(?<=[:：？]))(?:\((?P<a>[A-J])\)|(?P<b>[A-J])[.):、])\s?")
# Before a first "A." that no line begins with: else it may end "vitamin A." or belong to "Dr. A. Smith".
_LIST_FOLLOWS = re.compile(
    r"(?:^|\n|[?!:;,：？，；]|(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bSt)(?<!\bProf)[.。])\s*$"
)
_ASIDE = re.compile(r"\([^()]*\)\W*")
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
    said = [sentence for sentence in sentences(plain(text)) if not _ASIDE.fullmatch(sentence)]
    story, asked = " ".join(said[:-1]), said[-1] if said else ""
    if _YES_NO.search(asked):
        return "yesno"
    judged = asked.endswith("?") and " or " not in asked
    if judged and _AUXILIARY.match(asked):
        return "yesno"
    if asks_number(story, asked):
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
        if not found and mark["b"] and not _LIST_FOLLOWS.search(text, max(0, mark.start() - 40), mark.start()):
            continue
        if (mark["a"] or mark["b"]) == "ABCDEFGHIJ"[len(found) : len(found) + 1]:
            found.append(mark)
    if len(found) < 2:
        return {}
    ends = [mark.start() for mark in found[1:]] + [len(text)]
    options = [text[mark.end() : end].strip().rstrip(",;") for mark, end in zip(found, ends, strict=True)]
    if not all(option.strip(" ?.!") for option in options):
        return {}
    return {mark["a"] or mark["b"]: option for mark, option in zip(found, options, strict=True)}
