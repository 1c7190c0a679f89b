"""The vote on JSON answers: field by field, so that what most agree on stands even where no two whole answers agree.

Objects are merged key by key; whatever else (a string, a number, an array) is counted as it stands, strings whatever
their case and blanks. A tie goes to the ballot that agrees most with all the others over all fields, then to the first.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eot.types import Verdict
from scoring.ballots import EPSILON, Ballot, Poll
from scoring.json_answers import canonical_json

Path = tuple[str, ...]
_ABSENT = object()
_NOTES = 10


@dataclass(frozen=True)
class _Voice:
    """One ballot's value at one place. `rank` is its place in the order that breaks ties."""

    value: Any
    mass: float
    rank: int


@dataclass
class _Merge:
    """The value put together so far, and each field's share of the mass."""

    total: float
    shares: dict[Path, float] = field(default_factory=dict)

    def merged(self, voices: Sequence[_Voice], path: Path = ()) -> Any:
        groups: dict[str, list[_Voice]] = defaultdict(list)
        for voice in voices:
            groups[_token(voice.value)].append(voice)
        best = min(groups.values(), key=lambda group: (-_round(sum(v.mass for v in group)), min(v.rank for v in group)))
        first = min(best, key=lambda voice: voice.rank)
        if first.value is _ABSENT or not isinstance(first.value, dict) or not first.value:
            self.shares[path] = math.fsum(voice.mass for voice in best) / self.total
            return first.value
        found = {}
        for key in dict.fromkeys(key for voice in sorted(best, key=lambda voice: voice.rank) for key in voice.value):
            said = [_Voice(voice.value.get(key, _ABSENT), voice.mass, voice.rank) for voice in best]
            if (value := self.merged(said, (*path, key))) is not _ABSENT:
                found[key] = value
        return found


def vote_on_fields(poll: Poll, fits: Callable[[Any], bool] = lambda _: True) -> Verdict:
    """The verdict of ballots whose answers are JSON. What does not fit as a whole gives way to the best ballot.

    `support` is the share of the field that has the least; `agent` is who agrees most with the others.
    """
    values = [json.loads(answer) for answer in poll.answers if answer is not None]
    order = _order(values, poll.masses)
    ranks = {at: rank for rank, at in enumerate(order)}
    merge = _Merge(math.fsum(poll.masses))
    merged = merge.merged([_Voice(value, poll.masses[at], ranks[at]) for at, value in enumerate(values)])
    notes: tuple[str, ...] = tuple(_note(path, share) for path, share in merge.shares.items() if share < 1 - EPSILON)
    how = f"each field by majority of {len(poll)}" if notes else f"unanimous {len(poll)} of {len(poll)}"
    support = min(merge.shares.values())
    if not fits(merged):
        merged, how = (
            values[order[0]],
            f"the answer most like the others of {len(poll)}: the fields do not fit together",
        )
        support = poll.shares[canonical_json(merged)]
    speaker: Ballot = poll.ballots[order[0]]
    return Verdict(
        answer=canonical_json(merged),
        text=json.dumps(merged, ensure_ascii=False),
        agent=speaker.voter,
        how=how,
        support=support,
        supports=poll.supports,
        abstained=poll.abstained,
        voters=tuple(ballot.voter for ballot in poll.ballots),
        notes=(*notes[:_NOTES], *poll.notes),
    )


def _order(values: Sequence[Any], masses: Sequence[float]) -> list[int]:
    """Positions of the ballots, the one that agrees most with all of them first."""
    flat = [dict(_leaves(value)) for value in values]
    tally: Mapping[tuple[Path, str], float] = defaultdict(float)
    paths = {path for leaves in flat for path in leaves}
    for leaves, mass in zip(flat, masses, strict=True):
        for path in paths:
            tally[path, leaves.get(path, "")] += mass  # type: ignore[index]
    agreed = [_round(math.fsum(tally[path, leaves.get(path, "")] for path in paths)) for leaves in flat]
    return sorted(range(len(flat)), key=lambda at: (-agreed[at], at))


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    else:
        yield path, _token(value)


def _token(value: Any) -> str:
    """What equal values share: all objects at one place are one, since they are merged."""
    if value is _ABSENT:
        return ""
    if isinstance(value, dict):
        return "{}"
    return canonical_json(" ".join(value.split()).casefold() if isinstance(value, str) else value)


def _round(mass: float) -> float:
    return round(mass, 9)


def _note(path: Path, share: float) -> str:
    return f"field {'.'.join(path) or 'whole'}: {share:.0%}"[:200]
