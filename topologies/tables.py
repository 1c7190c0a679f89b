"""Who hears whom. A topology is data: for each seat, the seats whose last message it reads.

The four networks of Exchange-of-Thought (Yin et al., EMNLP 2023, arXiv 2312.01823). A seat always reads its own last
message too, so it stands in its own row; seat 0 is the hub of `report` and the root of `debate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from eot.errors import TopologyError, UnknownNameError

Table = Mapping[str, tuple[str, ...]]
"""Seat -> the seats it hears, its own included, in seat order."""


def memory(n: int) -> list[set[int]]:
    """Bus: everyone hears everyone. n² messages a round, own ones counted."""
    return [set(range(n)) for _ in range(n)]


def report(n: int) -> list[set[int]]:
    """Star: the hub hears all, the others hear the hub. 3n-2 messages a round."""
    return [set(range(n)), *({0, seat} for seat in range(1, n))]


def relay(n: int) -> list[set[int]]:
    """Directed ring: each hears the next one. 2n messages a round."""
    return [{seat, (seat + 1) % n} for seat in range(n)]


def debate(n: int) -> list[set[int]]:
    """Binary tree, heap-indexed: siblings hear each other, a parent hears its children, nothing flows down.

    3n-2 messages a round on a full tree; an only child hears no sibling.
    """
    family = [{2 * seat + 1, 2 * seat + 2} & set(range(n)) for seat in range(n)]
    siblings = {child: pair for pair in family for child in pair}
    return [{seat} | family[seat] | siblings.get(seat, set()) for seat in range(n)]


TOPOLOGIES: Mapping[str, Callable[[int], list[set[int]]]] = {
    "memory": memory,
    "report": report,
    "relay": relay,
    "debate": debate,
}
FEWEST_SEATS: Mapping[str, int] = {"memory": 2, "report": 2, "relay": 2, "debate": 3}


def table(name: str, seats: Sequence[str], own: Mapping[str, Mapping[str, Sequence[str]]] | None = None) -> Table:
    """Seat these agents in a topology by name: one of the four, or one of the user's `own` tables.

    Raises:
        UnknownNameError: there is no such topology.
        TopologyError: two seats share a name, there are too few of them, or the user's own table cannot work.
    """
    _refuse_twins(seats)
    if own and name in own:
        return _own_table(name, own[name], seats)
    if name not in TOPOLOGIES:
        raise UnknownNameError("topology", name, [*TOPOLOGIES, *(own or ())])
    if 1 < len(seats) < FEWEST_SEATS[name]:
        raise TopologyError(f"{name} wants at least {FEWEST_SEATS[name]} agents; this council has {len(seats)}")
    rows = TOPOLOGIES[name](len(seats))
    return {seat: tuple(seats[other] for other in sorted(row)) for seat, row in zip(seats, rows, strict=True)}


def _refuse_twins(seats: Sequence[str]) -> None:
    if not seats:
        raise TopologyError("a council needs at least one agent; this one has none")
    if twins := {seat for seat in seats if list(seats).count(seat) > 1}:
        raise TopologyError(
            f"two agents are called {min(twins)!r}; each seat needs an agent of its own name (a model may be shared)"
        )


def _own_table(name: str, rows: Mapping[str, Sequence[str]], seats: Sequence[str]) -> Table:
    """A user's table. Its rows name the council's agents, or any labels, which then stand for the agents in order."""
    if len(rows) != len(seats):
        raise TopologyError(
            f"topology {name!r} has {len(rows)} seats, the council {len(seats)} agents; they must be equal"
        )
    if strangers := set(rows) - set(seats) if set(rows) & set(seats) else set():
        raise TopologyError(
            f"topology {name!r} has a row for {min(strangers)!r}, which is no agent of this council: {', '.join(seats)}"
        )
    sits = {seat: seat for seat in seats} if set(rows) == set(seats) else dict(zip(rows, seats, strict=True))
    for label, heard in rows.items():
        for other in heard:
            if other not in sits:
                raise TopologyError(
                    f"topology {name!r}: {label!r} hears {other!r}, which is no seat of {', '.join(sits)}"
                )
    heard_by = {sits[label]: {sits[other] for other in heard} | {sits[label]} for label, heard in rows.items()}
    made = {seat: tuple(other for other in seats if other in heard_by[seat]) for seat in seats}
    if rounds_to_reach(made) is None:
        raise TopologyError(
            f"topology {name!r} falls apart: no seat ever hears of all the others; "
            "let at least one of them hear every other, directly or over several rounds"
        )
    return made


def rounds_to_reach(hears: Table) -> int | None:
    """Rounds until a message of anyone has reached everyone it can reach; None if no seat ever hears of all.

    memory 1, report 2, relay n-1; in a tree, where nothing flows down, until every message is at the root.
    """
    steps = {seat: _steps_to(seat, hears) for seat in hears}
    roots = [reached for reached in steps.values() if len(reached) == len(hears)]
    return max((max(reached.values()) for reached in roots), default=None)


def _steps_to(listener: str, hears: Table) -> dict[str, int]:
    """Seat -> rounds until its message has come to `listener`, over those whose message comes at all."""
    steps, edge = {listener: 0}, [listener]
    while edge:
        edge = list({other for seat in edge for other in hears[seat] if other not in steps})
        steps |= dict.fromkeys(edge, max(steps.values()) + 1)
    return steps


def messages_a_round(hears: Table) -> int:
    """Messages read in one exchange round, each seat's own last message counted."""
    return sum(len(heard) for heard in hears.values())
