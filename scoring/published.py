"""Reading and voting as the published Exchange-of-Thought code does it, for reproduction only.

Its known defects are kept: only the lower-case words "the answer is" mark an answer, "18" and "18.0" disagree, letters
are found inside words, and a tie goes to whoever sits first. One is not: where its code crashes because nothing could
be read, there is no answer here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from eot.types import Kind, Support, Verdict
from scoring.vote import Ballot

_MARK = "the answer is"


def _numbers(tail: str) -> list[str]:
    return [found.removesuffix(".") for found in re.findall(r"-?\d+\.?\d*", tail.replace(",", ""))]


def _letters(tail: str) -> list[str]:
    return re.findall("[A-E]", tail.replace(",", ""))


def _yes_or_no(tail: str) -> list[str]:
    return [word for word in re.split(r"[\"'\s.:,]", tail.lower()) if word in ("yes", "no")]


_FIND: Mapping[Kind, Callable[[str], list[str]]] = {"number": _numbers, "choice": _letters, "yesno": _yes_or_no}


def read_as_published(text: str, kind: Kind) -> str | None:
    """The first match after the last "the answer is", or the last match of all when those words are absent.

    An open question has no reader in the published code; its whole text is the answer here.
    """
    if kind == "open":
        return text.strip() or None
    marked = _MARK in text
    found = _FIND[kind](text.rsplit(_MARK, maxsplit=1)[-1])
    return (found[0] if marked else found[-1]) if found else None


def vote_as_published(ballots: Sequence[Ballot]) -> Verdict:
    """The most frequent readable answer as a string; a tie goes to the one that was said first."""
    counts = Counter(ballot.answer for ballot in ballots if ballot.answer is not None)
    abstained = tuple(ballot.voter for ballot in ballots if ballot.answer is None)
    if not counts:
        return Verdict(answer=None, text="", agent="", how="nothing could be read", support=0.0, abstained=abstained)
    ranked = counts.most_common()
    total = counts.total()
    answer, count = ranked[0]
    spokesman = next(ballot for ballot in ballots if ballot.answer == answer)
    runner_up = ranked[1][1] if len(ranked) > 1 else 0
    return Verdict(
        answer=answer,
        text=spokesman.text,
        agent=spokesman.voter,
        how=f"most frequent string, {count} of {total}",
        support=count / total,
        margin=(count - runner_up) / total,
        tie=count == runner_up,
        supports=tuple(
            Support(answer=said, agents=tuple(b.voter for b in ballots if b.answer == said), share=times / total)
            for said, times in ranked
        ),
        abstained=abstained,
        voters=tuple(ballot.voter for ballot in ballots),
    )
