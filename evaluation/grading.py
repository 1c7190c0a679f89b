"""Whether an answer is right: numbers by value, choices by letter, yes or no, free text by its folded form or likeness.

An open answer is right when its folded form is the reference's, or when it is like enough: the mean of ROUGE-L F1 over
words and over characters (Lin, 2004) is `OPEN_THRESHOLD` or more, for the answer that was read or for the whole text,
whichever is nearer, and every number of the reference is in it (likeness does not see numbers: 1912 and 1913 are
almost the same text). This is a rough judge, blind to a "not"; where a question can be closed, close it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from eot.types import Kind
from evaluation.datasets import Labelled
from scoring import same

OPEN_THRESHOLD = 0.5
_NUMBER = re.compile(r"\d+")


def grade(answer: str | None, labelled: Labelled, text: str = "") -> bool | None:
    """Whether the answer to a labelled question is right; None where the question has no gold.

    Args:
        answer: what was read from the text, or None: an unreadable answer is never right.
        labelled: the question and its gold.
        text: the whole text, which an open answer is also judged by.
    """
    if labelled.gold is None:
        return None
    return is_right(answer, labelled.gold, labelled.kind, labelled.question.choices, text)


def is_right(
    answer: str | None, gold: str, kind: Kind, choices: Mapping[str, str] | None = None, text: str = ""
) -> bool:
    """Whether `answer` is `gold`, each canonical for its kind (`choices` keeps the case of its keys)."""
    if kind == "open":
        return same(answer, gold, kind) or likeness(answer or "", gold, text) >= OPEN_THRESHOLD
    if kind == "choice" and choices and answer in choices:
        return answer == gold
    return same(answer, gold, kind)


def likeness(answer: str, gold: str, text: str = "") -> float:
    """The likeness to the reference, in 0..1, of the answer or of the text, whichever is nearer."""
    from scoring.similarity import char_a_f, word_a_f  # noqa: PLC0415  # numpy takes a while; closed kinds need none

    said = [part for part in dict.fromkeys((answer, text)) if _has_numbers_of(gold, part)]
    if not said:
        return 0.0
    texts = [gold, *said]
    return float(((word_a_f(texts) + char_a_f(texts)) / 2)[0, 1:].max())


def _has_numbers_of(gold: str, part: str) -> bool:
    return bool(part.strip()) and set(_NUMBER.findall(gold)) <= set(_NUMBER.findall(part))
