"""What a council does while its answer is not there yet, in words: for clients that show a model's reasoning."""

from __future__ import annotations

from eot.events import Event, RunStarted, Stopped, TurnEnded, TurnStarted, VerdictReached
from eot.types import Silence, Turn

STILL = "… "
"""What is said when nothing else was to be said for a while."""


def progress(event: Event) -> str:
    """A paragraph, or "" for what is not worth one. Pieces of turns are not: those of several agents would mix."""
    match event:
        case RunStarted():
            return f"{event.topology}: {', '.join(event.hears)}\n\n"
        case TurnStarted() if event.reads:
            return f"{event.agent} reads {', '.join(event.reads)}\n\n"
        case TurnEnded():
            return _said(event.turn)
        case Stopped():
            return f"stopped after round {event.stop.round}: {event.stop.detail}\n\n"
        case VerdictReached():
            return f"{event.verdict.how}; support {event.verdict.support:.0%}\n\n"
        case _:
            return ""


def _said(turn: Turn) -> str:
    head = f"{turn.agent}, round {turn.round}"
    if isinstance(turn, Silence):
        return f"{head}: silent ({turn.reason})\n\n"
    return f"{head}:\n{turn.text.strip()}\n\n"
