"""Exchanges made by hand for tests of what reads them."""

from eot.types import Exchange, Question, Silence, Thought
from topologies import table


def exchange(*rounds, topology="memory", mode="default", kind="number", texts=None):
    """An exchange of seats a, b, c...: each round a sequence of answers; None is unreadable, "!" is silence."""
    seats = [chr(ord("a") + i) for i in range(len(rounds[0]))]
    turns = tuple(
        tuple(
            _turn(seat, at, answer, (texts or {}).get((seat, at)))
            for seat, answer in zip(seats, row, strict=True)
            if answer != ""
        )
        for at, row in enumerate(rounds)
    )
    hears = table(topology, seats)
    return Exchange(
        id="run",
        question=Question(text="How many?"),
        kind=kind,
        topology=topology,
        hears=hears,
        rounds=turns,
        mode=mode,
    )


def _turn(seat, at, answer, text):
    if answer == "!":
        return Silence(agent=seat, round=at, reason="deadline")
    return Thought(agent=seat, round=at, text=text or f"The answer is {answer}.", answer=answer)
