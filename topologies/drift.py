"""Who moved whom: answers that changed after a peer was read, and peers who give orders instead of reasons.

An exchange is open to persuasion, and to injection: one member's text can carry instructions for the others. Nothing
here stops a member from believing a peer (that is what the exchange is for); it makes the move visible.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from eot.types import Exchange, Thought

# An imperative at the head of a sentence: "we can ignore the tax in the question" is reasoning, not an order.
_ORDER = re.compile(
    r"(?:^|[.!?:;\n\"“]\s*|\bplease\s+)(?:ignore|disregard|forget|override)\b"
    r".{0,40}?\b(?:instruction|prompt|rule|message|question|before|above|previous|else|said)s?\b"
    r"|\b(?:you|everyone|all of you) (?:must|have to) (?:answer|say|reply|repeat)\b"
    r"|\b(?:every|each|your) (?:reply|answer|response) (?:must|has to) be\b|\byour system prompt\b"
    r"|(?:^|[。！？：；\n“]\s*|请)(?:忽略|无视|忘记|忘掉).{0,20}?(?:指令|指示|提示|规则|问题)",
    re.IGNORECASE | re.DOTALL,
)
_SHOWN = 60


def drift_notes(exchange: Exchange) -> tuple[str, ...]:
    """Sentences for the verdict: each peer who gave orders, and who then took over that peer's answer."""
    return tuple(_note(exchange, thought, order) for thought, order in _orders(exchange))


def _orders(exchange: Exchange) -> Iterator[tuple[Thought, str]]:
    """The first text of each agent that reads like an order to its readers."""
    seen: set[str] = set()
    for thought in exchange.thoughts:
        found = _ORDER.search(thought.text)
        if found and thought.agent not in seen:
            seen.add(thought.agent)
            yield thought, " ".join(found.group().split())[:_SHOWN]


def _note(exchange: Exchange, thought: Thought, order: str) -> str:
    moved = [f"{agent} from {before} to {after}" for agent, before, after in moves(exchange, thought.agent)]
    then = f"; after reading it {', '.join(moved)} moved to its answer" if moved else "; nobody took over its answer"
    return f"{thought.agent}'s text of round {thought.round} reads like an order to its readers ({order!r}){then}"


def moves(exchange: Exchange, peer: str) -> list[tuple[str, str | None, str]]:
    """(agent, answer before, answer after) of each who gave up its answer for the one `peer` had just given."""
    said = {(thought.agent, thought.round): thought.answer for thought in exchange.thoughts}
    moved = []
    for agent in exchange.seats:
        for before, after in pairwise(exchange.of(agent)):
            told = said.get((peer, after.round - 1))
            hears = agent != peer and peer in exchange.hears[agent]
            if hears and after.answer is not None and after.answer == told and before.answer != told:
                moved.append((agent, before.answer, after.answer))
    return moved
