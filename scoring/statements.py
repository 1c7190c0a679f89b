"""Where a reply states its answer: "The answer is X", "Answer: X", "#### X", "答案是X", last statement first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from eot.types import Kind

_MARK = re.compile(
    # "cannot be" and 不是 state nothing
    r"""\banswers?\b(?:[^.\n:=(]{0,60}?(?<!not\ )(?<!n't\ )(?<!never\ )\b(?:is|be|was|equals)\b(?:\s?:)?|\s?[:=])
    |\bfinal\ result\b(?:\ is|\s?:)|\#{4}
    |答案[^。\n:]{0,12}?(?<!不)(?:是|为|選|选)\s?:?|答案\s?:|^答\s?:|最[终後后]结果\s?(?:是|为|:)""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
# "A: 26" ends a solution of GSM8K's own format; among choices "A: bank" is an option.
_LETTER_MARK = re.compile(r"^A\s?:", re.MULTILINE)
_CONCLUSION = re.compile(r"(?:所以|因此|综上)[^。\n]{0,20}?(?:是|为)")
_REFUSAL = re.compile(
    r"""\b(?:(?:cannot|can't|can\ not|could\ not|couldn't|unable\ to)\ (?:\w+\ ){0,2}?
      (?:determine|answer|know|calculate|compute|find|provide|say|tell|solve|conclude
        |be\ (?:determined|answered|known|calculated|found|solved))
      |unknown|unclear|undetermined|indeterminate|impossible
      |not\ (?:possible|enough|sufficient|determin\w+|given|known|specified|defined|provided))\b
    |无法|不能确定|不确定|不得而知|未知|条件不足""",
    re.VERBOSE | re.IGNORECASE,
)
_MOST = 20


class Statement(NamedTuple):
    """`lead` is the words that announce the answer, `body` the rest of the line (of the next one, if that is empty)."""

    lead: str
    body: str


def statements(prose: str, kind: Kind) -> Iterator[Statement]:
    """What the reply calls its answer, last first; at most 20 of them."""
    marks = [*_MARK.finditer(prose), *(_LETTER_MARK.finditer(prose) if kind in ("number", "yesno") else ())]
    marks += _CONCLUSION.finditer(prose) if kind == "open" else ()
    marks.sort(key=re.Match.start, reverse=True)
    for mark in islice(marks, _MOST):
        body = prose[mark.end() :].lstrip(" *_:\n").partition("\n")[0]
        if body:
            yield Statement(mark[0], body.strip())


def refuses(sentence: str) -> bool:
    """Whether the sentence says that the answer cannot be known."""
    return _REFUSAL.search(sentence) is not None
