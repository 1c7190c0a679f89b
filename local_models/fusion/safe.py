"""`safe`: the main member drafts, the others verify in one pass each, and fusion happens only where it is needed.

The main member writes n tokens alone. Each other member reads them in its own tokens. A draft token can be judged only
where the text before it ends on a token boundary of every member; elsewhere it stands. Greedily it stands without
fusion if (a) every verifier's own best token is the one it has there, or (b) sum_i w_i P_i(its token) > 1/2, which no
other token can beat. At the first token that is refused, the inner method's choice is written instead, and drafting
begins anew. If the fused distribution's best has less than 1/2, it is sharpened: a main member's token with more than
lambda also gets what other candidates that begin with it have.

Drawing at a temperature there is no rule (a) or (b): a token x stands with probability min(1, P(x)/P_main(x)) for the
fused P, else one is drawn from max(0, P - P_main), normalised, so that what is judged is distributed as P.

Yun et al., "When to Ensemble", 2025 (arXiv 2510.15346): n = 5, lambda = 0.1, `unite` inside. Fusing every token harms
long answers there (74.8 to 59.6 on MATH500 for `unite`), fusing 4 to 20 % of them does not. Cost a token: the main
member's, and one pass of n tokens of each other for up to n tokens. Here a draft also ends behind a token that the main
member itself finds less likely than not: that is where drafts are refused, and what is drafted behind it is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from local_models.fusion.ballot import Ballot
from local_models.fusion.follow import Follower
from local_models.fusion.panel import LostError, Panel
from local_models.fusion.turns import Step
from local_models.fusion.vocabulary import END

_SURE = math.log(0.5)


class Draft(NamedTuple):
    """A token that the main member drafted: where its text begins, its place in the row, and that row (V+1)."""

    start: int
    place: int
    piece: bytes
    row: Tensor


class View(NamedTuple):
    """What a verifier has at a byte: its row there (V+1), and the place in it of the token that it reads there."""

    row: Tensor
    place: int


def safe(panel: Panel, draft: int, sharpen: float) -> Iterator[Step]:
    """Yield the reply's pieces, until it ends or a member's context is full."""
    text = b""
    while not panel.is_full:
        try:
            steps = _round(panel, text, draft, sharpen)
        except LostError:
            panel.main.rewind(text)
            continue
        for step in steps:
            yield step
            if step.ended:
                return
            text += step.token


def _round(panel: Panel, text: bytes, draft: int, sharpen: float) -> list[Step]:
    """One draft and its verification; afterwards the main member has read exactly what is returned."""
    panel.main.rewind(text)
    drafts = _drafts(panel, draft)
    views = [_views(panel, follower, len(text), drafts) for follower in panel.followers[1:]]
    steps = []
    for one in drafts:
        own = panel.alone(one.row)
        seen = [view.get(one.start) for view in views]
        if None in seen or panel.method.is_alone(one.row):
            steps.append(panel.step(own, one.place))
            continue
        step, stands = _judged(panel, one, [view for view in seen if view], sharpen)
        steps.append(step)
        if not stands:
            panel.main.cut(one.start)
            panel.main.write(step.token)
            break
    return steps


def _drafts(panel: Panel, count: int) -> list[Draft]:
    main, drafts = panel.main, list[Draft]()
    while len(drafts) < count and not main.is_full:
        row = panel.rows(main)[0]
        place = panel.draw(row)
        piece = main.vocabulary.surfaces[place]
        assert piece is not None  # its row has -inf there
        drafts.append(Draft(len(main.text), place, piece, row))
        if piece == END:
            break
        main.append(place)
        if row[place] < _SURE:
            break
    return drafts


def _views(panel: Panel, follower: Follower, since: int, drafts: Sequence[Draft]) -> dict[int, View]:
    """What a verifier sees at each of its token boundaries from byte `since` on, by one pass over the draft."""
    panel.follow(follower)
    starts, ids = follower.starts, follower.ids
    first = next(place for place, start in enumerate(starts) if start >= since)
    rows = panel.rows(follower, len(starts) - first)
    end = len(follower.vocabulary.pieces)
    tokens = [*ids[first:], end]  # at the end of the text only END can be judged
    if drafts and drafts[-1].piece != END:
        starts, tokens = starts[:-1], tokens[:-1]
    return {start: View(row, token) for start, row, token in zip(starts[first:], rows, tokens, strict=False)}


def _judged(panel: Panel, one: Draft, seen: Sequence[View], sharpen: float) -> tuple[Step, bool]:
    """The step at a draft token that all members can judge, and whether it is the draft token."""
    rows = [one.row, *(view.row for view in seen)]
    if panel.request.temperature:
        return _drawn(panel, one, panel.method(rows))
    if _agreed(panel.shares, one, seen):
        told = panel.method(rows) if panel.request.sampling.top_logprobs else panel.alone(one.row)
        place = list(told.pieces).index(one.piece) if one.piece in told.pieces else -1
        return (panel.step(told, place) if place >= 0 else panel.step(panel.alone(one.row), one.place)), True
    ballot = panel.method(rows)
    chosen = int(_sharpened(panel, ballot, sharpen).argmax())
    return panel.step(ballot, chosen), ballot.pieces[chosen] == one.piece


def _agreed(shares: Sequence[float], one: Draft, seen: Sequence[View]) -> bool:
    """SAFE's rules (a) and (b)."""
    if all(int(view.row.argmax()) == view.place for view in seen):
        return True
    own = [one.row[one.place], *(view.row[view.place] for view in seen)]
    return sum(share * float(logprob.exp()) for share, logprob in zip(shares, own, strict=True)) > 0.5


def _sharpened(panel: Panel, ballot: Ballot, least: float) -> Tensor:
    """Where no candidate has half, the main member's likely tokens also get what begins with them: C."""
    fused = ballot.fused.exp()
    if not least or fused.max() >= 0.5:
        return fused
    known = panel.main.vocabulary.ids
    likely = fused.topk(min(64, len(fused))).indices.tolist()
    fused = fused.clone()
    for place in [place for place in likely if fused[place] > least]:
        piece = ballot.pieces[place]
        if not piece or piece not in known:
            continue
        longer = [other for other in likely if other != place and (ballot.pieces[other] or b"").startswith(piece)]
        fused[place] += ballot.fused[longer].exp().sum()
    return fused


def _drawn(panel: Panel, one: Draft, ballot: Ballot) -> tuple[Step, bool]:
    """Accept the drawn draft token, or draw from what the fused distribution has over the main member's."""
    fused, own = panel.probabilities(ballot.fused), panel.probabilities(one.row)
    here = ballot.pieces.index(one.piece) if one.piece in ballot.pieces else -1
    if here >= 0 and panel.request.draws.random() * float(own[one.place]) < float(fused[here]):
        return panel.step(ballot, here), True
    drafted, main = torch.zeros_like(fused), panel.main.vocabulary
    for there in fused.nonzero().flatten().tolist():
        piece = ballot.pieces[there] or END
        place = main.ids.get(piece, -1) if piece else len(main.pieces)
        drafted[there] = own[place] if place >= 0 else 0.0
    left = (fused - drafted).clamp(min=0)
    chosen = panel.pick(left if float(left.sum()) > 0 else fused)
    return panel.step(ballot, chosen), ballot.pieces[chosen] == one.piece
