"""The crowd's vote: from ballots to a verdict.

Methods: `majority` on canonical answers; `emb_a_s`, `word_a_f`, `char_a_f` and their `sum` by similarity of the texts
(as at the WSDM Cup 2024, arXiv 2402.18385: MBR decoding with a uniform crowd); `confidence`: majority with each ballot
times its confidence; `auto`: majority, and similarity only for ties, for which text speaks for the winners, and for
open questions without a majority. A static weight of a ballot always counts.

Ties: support, then similarity, then weight, then the order of the ballots. Between two, similarity is symmetric and
says nothing: then weight, then confidence, then order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eot.errors import MissingExtraError, NoQuorumError, UnknownNameError
from eot.types import Kind, Verdict
from scoring.ballots import EPSILON, Ballot, Poll, count
from scoring.fields import vote_on_fields
from scoring.methods import BY_SIMILARITY, METHODS, Embed, wants_embedding

if TYPE_CHECKING:
    from scoring.comparison import Comparison

__all__ = ["Ballot", "vote"]

_TWO = "two ballots disagree: their similarity is symmetric and cannot decide"
WITHOUT_EMBEDDING = "no embedding model is at hand: texts were compared by word+char"
_UNREADABLE = "no answer could be read from any text; the text chosen is the one most like the others"


@dataclass(frozen=True)
class _Decision:
    """Which ballot speaks, and why. `comparison` is None when no texts had to be compared."""

    at: int
    how: str
    margin: float = 0.0
    tie: bool = False
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()


def vote(
    ballots: Sequence[Ballot],
    *,
    method: str = "auto",
    kind: Kind,
    embed: Embed | None = None,
    wsdm: bool = False,
    fits: Callable[[Any], bool] = lambda _: True,
) -> Verdict:
    """The verdict of these ballots, in order of priority, the first agent first. Slow with `embed`: call in a thread.

    `wsdm` computes similarities as the WSDM Cup winner did, and makes the four votes by similarity that winner's vote:
    every ballot in, empty ones too, no weights, the lowest index of equals. JSON answers are voted on field by field,
    whatever the method; `fits` says whether the fields that won make a value that may be.

    Raises:
        UnknownNameError: there is no such method.
        MissingExtraError: the embedding vote without `embed`.
        NoQuorumError: no ballot says anything.
    """
    if method not in METHODS:
        raise UnknownNameError("vote", method, METHODS)
    if method == "emb_a_s" and embed is None:
        raise MissingExtraError("the embedding vote", "embed")
    poll = count(ballots, kind, by_confidence=method == "confidence")
    if not poll:
        raise NoQuorumError(f"none of {len(ballots)} ballots says anything; a vote needs at least one text")
    if kind == "json" and poll.groups:
        return vote_on_fields(poll, fits)
    wanted = wants_embedding(method, kind)
    used = embed if wanted else None
    if wsdm and method in BY_SIMILARITY:
        verdict = _wsdm_verdict(ballots, poll, method, used)
    else:
        verdict = _verdict(poll, _decide(poll, method, kind, used, wsdm=wsdm))
    if wanted and embed is None and verdict.signals:
        return verdict.model_copy(update={"notes": (*verdict.notes, WITHOUT_EMBEDDING)})
    return verdict


def _decide(poll: Poll, method: str, kind: Kind, embed: Embed | None, *, wsdm: bool) -> _Decision:
    if len(poll) == 1:
        return _Decision(0, "only voice", margin=1.0 if poll.groups else 0.0)

    def look() -> Comparison:
        from scoring.comparison import compare  # noqa: PLC0415  # numpy takes a while, and most votes need none

        texts, weights = zip(*((ballot.text, ballot.weight) for ballot in poll.ballots), strict=True)
        return compare(texts, weights, method, embed, exact=wsdm)

    if not poll.groups:
        return _most_alike(poll, look)
    no_majority = max(poll.shares.values()) <= 0.5 + EPSILON
    if method in BY_SIMILARITY or (method == "auto" and kind == "open" and no_majority):
        return _most_alike(poll, look)
    return _most_supported(poll, look, method)


def _most_supported(poll: Poll, look: Callable[[], Comparison], method: str) -> _Decision:
    """The answer with the largest share; the winners' text most like the rest speaks for them."""
    best = max(poll.shares.values())
    tied = [answer for answer, share in poll.shares.items() if share >= best - EPSILON]
    at, decided, comparison = _first(poll, [at for answer in tied for at in poll.groups[answer]], look)
    others = [share for answer, share in poll.shares.items() if answer != poll.answers[at]]
    how = f"tie broken by {decided}" if len(tied) > 1 else _counted(poll, at, best, method)
    notes = (_TWO,) if len(tied) > 1 and len(poll) == 2 else ()
    return _Decision(at, how, best - max(others, default=0.0), len(tied) > 1, comparison, notes)


def _counted(poll: Poll, at: int, share: float, method: str) -> str:
    answer = poll.answers[at]
    voices = len(poll.groups[answer]) if answer is not None else 0
    word = "unanimous" if voices == len(poll) else "majority" if share > 0.5 + EPSILON else "plurality"
    weighted = len({ballot.weight for ballot in poll.ballots}) > 1
    by = " by confidence" if method == "confidence" else " by weight" if weighted else ""
    return f"{word} {voices} of {len(poll)}{by}"


def _most_alike(poll: Poll, look: Callable[[], Comparison]) -> _Decision:
    """The text with the largest sum of similarities to the others."""
    at, decided, comparison = _first(poll, list(range(len(poll))), look)
    unread = () if poll.groups else (_UNREADABLE,)
    if comparison is None:
        differ = _differ(poll, range(len(poll)))
        how = f"tie broken by {decided}" if differ else f"unanimous {len(poll)} of {len(poll)}"
        return _Decision(at, how, tie=differ, notes=((_TWO,) if differ else ()) + unread)
    standing = comparison.standing
    level = [other for other in range(len(poll)) if standing[other] >= max(standing) - EPSILON]
    rivals = [standing[other] for other in range(len(poll)) if _differ(poll, (at, other))]
    tie = _differ(poll, level)
    how = f"tie broken by {decided}" if tie else f"most like the others by {comparison.label}"
    return _Decision(at, how, standing[at] - max(rivals, default=0.0), tie, comparison, unread)


def _first(poll: Poll, candidates: list[int], look: Callable[[], Comparison]) -> tuple[int, str, Comparison | None]:
    """Who of the candidates speaks, what decided between different answers, and the comparison if one was made."""
    weights = [ballot.weight for ballot in poll.ballots]
    comparison = None
    if len(poll) > 2 and len({poll.ballots[at].text for at in candidates}) > 1:
        comparison = look()
        criteria = [(f"{comparison.label} similarity", list(comparison.standing)), ("weight", weights)]
    else:
        criteria = [("weight", weights), ("confidence", [ballot.confidence or 0.0 for ballot in poll.ballots])]
    decided, left = "order", candidates
    for label, values in criteria:
        best = max(values[at] for at in left)
        kept = [at for at in left if values[at] >= best - EPSILON]
        if _differ(poll, left) and not _differ(poll, kept):
            decided = label
        left = kept
    return min(left), decided, comparison


def _differ(poll: Poll, places: Sequence[int]) -> bool:
    """Whether these ballots say different things: another answer, or another text where no answer was read."""
    return len({poll.answers[at] or poll.ballots[at].text for at in places}) > 1


def _verdict(poll: Poll, decision: _Decision) -> Verdict:
    answer, comparison = poll.answers[decision.at], decision.comparison
    return Verdict(
        answer=answer,
        text=poll.ballots[decision.at].text,
        agent=poll.ballots[decision.at].voter,
        how=decision.how,
        support=poll.shares[answer] if answer is not None else 0.0,
        margin=decision.margin,
        tie=decision.tie,
        supports=poll.supports,
        abstained=poll.abstained,
        voters=tuple(ballot.voter for ballot in poll.ballots),
        signals=tuple(comparison.matrices) if comparison else (),
        scores=comparison.scores if comparison else {},
        notes=(*decision.notes, *(comparison.notes if comparison else ()), *poll.notes),
    )


def _wsdm_verdict(ballots: Sequence[Ballot], poll: Poll, method: str, embed: Embed | None) -> Verdict:
    """Every ballot takes part, an empty one with -2; `sum` adds the matrices up, which that winner never did."""
    from scoring.comparison import compare  # noqa: PLC0415  # as above
    from scoring.wsdm import winner  # noqa: PLC0415

    compared = compare([ballot.text for ballot in ballots], [1.0] * len(ballots), method, embed, exact=True)
    total = sum(compared.matrices.values(), start=0 * next(iter(compared.matrices.values())))
    sums, at = total.sum(axis=0).tolist(), winner(total)
    rivals = [sums[j] for j in range(len(ballots)) if j != at]
    read = {id(ballot): answer for ballot, answer in zip(poll.ballots, poll.answers, strict=True)}
    whole = Poll(
        tuple(ballots), tuple(read.get(id(ballot)) for ballot in ballots), (1.0,) * len(ballots), poll.abstained
    )
    margin = (sums[at] - max(rivals, default=0.0)) / (len(ballots) * len(compared.matrices))
    level = [j for j in range(len(ballots)) if sums[j] >= sums[at] - EPSILON]
    how = f"most like the others by {compared.label}, as at the WSDM Cup 2024"
    return _verdict(whole, _Decision(at, how, margin, _differ(whole, level), compared))
