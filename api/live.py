"""The live view: who thinks, who reads whom, what each has answered so far. It only listens to the run's events."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from api.report import one_line, said
from eot.events import Event, RunStarted, Stopped, Token, TurnEnded, TurnStarted, VerdictReached, VoteStarted
from eot.types import Turn

_TAIL = 48


@dataclass
class _Seat:
    turns: list[Turn] = field(default_factory=list)
    text: str = ""
    round: int = 0
    reads: tuple[str, ...] = ()
    thinking: bool = False


class LiveView:
    """A terminal's picture of a run, redrawn as the events come. Use as a context manager, and as the watcher."""

    def __init__(self, console: Console) -> None:
        self._seats: dict[str, _Seat] = {}
        self._line = Text("waking the agents …", style="dim")
        self._question = ""
        self._topology = ""
        self._started = time.monotonic()
        self._live = Live(get_renderable=self.__rich__, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._question, self._topology = event.question.text, event.topology
                self._seats = {name: _Seat() for name in event.hears}
                self._started = time.monotonic()
            case TurnStarted():
                seat = self._seats[event.agent]
                seat.thinking, seat.text, seat.round, seat.reads = True, "", event.round, event.reads
                self._line = Text(
                    f"round {event.round}: " + ("each alone" if not event.round else "reading each other")
                )
            case Token():
                seat = self._seats[event.agent]
                seat.text = event.text if event.restart else seat.text + event.text
            case TurnEnded():
                seat = self._seats[event.turn.agent]
                seat.thinking = False
                seat.turns.append(event.turn)
            case Stopped():
                self._line = Text(f"stopped: {event.stop.rule} ({event.stop.detail})")
            case VoteStarted():
                self._line = Text(f"voting: {event.method}")
            case VerdictReached():
                self._line = Text(f"verdict: {event.verdict.answer}")

    def __rich__(self) -> RenderableType:
        table = Table(box=box.SIMPLE_HEAD, expand=True)
        for title, share in (("agent", 2), ("reads", 3), ("answers", 3), ("now", 6)):
            table.add_column(title, ratio=share, no_wrap=True)
        for name, seat in self._seats.items():
            table.add_row(
                Text(name, style="bold"), Text(", ".join(seat.reads), style="dim"), _answers(seat), _now(seat)
            )
        clock = Text(f"{time.monotonic() - self._started:5.1f} s  ", style="dim")
        heading = Text(f"{self._topology}  ", style="bold") + Text(one_line(self._question, 90))
        return Group(heading, table, clock + self._line)


def _answers(seat: _Seat) -> Text:
    return Text(" → ").join(said(turn) for turn in seat.turns)


def _now(seat: _Seat) -> RenderableType:
    if not seat.thinking:
        return Text("waiting" if seat.turns else "", style="dim")
    tail = one_line(seat.text[-2 * _TAIL :], 2 * _TAIL)[-_TAIL:]
    return Spinner("dots", Text(tail or ("reading" if seat.reads else "thinking"), style="cyan"))
