"""Every token is decided together: the members' rows, one ballot, one choice."""

from __future__ import annotations

from collections.abc import Iterator

from local_models.fusion.ballot import Ballot
from local_models.fusion.panel import LostError, Panel
from local_models.fusion.turns import Step


def stepwise(panel: Panel) -> Iterator[Step]:
    """Yield the reply's pieces, until it ends or a member's context is full."""
    text = b""
    while not panel.is_full:
        try:
            ballot = _ballot(panel, text)
        except LostError:
            continue
        step = panel.step(ballot, panel.draw(ballot.fused))
        yield step
        if step.ended:
            return
        text += step.token
        panel.main.write(step.token)


def _ballot(panel: Panel, text: bytes) -> Ballot:
    panel.main.rewind(text)
    main = panel.rows(panel.main)[0]  # V+1
    if panel.method.is_alone(main):
        return panel.alone(main)
    rows = [main]
    for follower in panel.followers[1:]:
        panel.follow(follower)
        rows.append(panel.rows(follower)[0])
    return panel.method(rows)
