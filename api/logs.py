"""The serving process's log: one JSON object a line, or plain lines on a terminal.

What nobody asked to have written down is not: no question, no answer, no header, no query string. A key that comes by
all the same is blotted out, and of an exception only its kind and where it was raised are told, since its words may
quote a prompt.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Literal, TextIO

from agents.faults import blot
from eot.events import Event, RunStarted, TurnEnded, VerdictReached
from eot.text import clean
from eot.types import Silence

Format = Literal["auto", "json", "text"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; what it begins (a run, its calls) inherits it."""

_OURS = ("agents", "api", "eot", "evaluation", "local_models", "scoring", "topologies", "uvicorn")
_LONGEST = 4000
_log = logging.getLogger(__name__)


def configure(
    form: Format = "auto", level: str = "info", secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Write the log to `stream` (stderr if None): ours from `level` on, of other packages warnings only.

    `secrets` are blotted out wherever they turn up, besides what looks like a key or stands in a variable for one.
    """
    out = stream or sys.stderr
    plain = form == "text" or (form == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(PlainLines(secrets) if plain else JsonLines(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())


class JsonLines(logging.Formatter):
    """One JSON object a record: `time`, `level`, `logger`, `message`, `request_id`, the record's `facts`, `trace`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._safe(record.getMessage()),
        }
        if name := request_id.get():
            told["request_id"] = name
        told |= {name: self._value(value) for name, value in _facts(record).items()}
        if record.exc_info and record.exc_info[1]:
            told["trace"] = [self._safe(line) for line in where(record.exc_info[1])]
        return json.dumps(told, ensure_ascii=False)

    def _value(self, value: Any) -> Any:
        return value if isinstance(value, int | float | bool | None) else self._safe(str(value))

    def _safe(self, text: str) -> str:
        return blot(clean(text), self._secrets)[:_LONGEST]


class PlainLines(JsonLines):
    """The same for a person's eyes."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        words = [clock, f"{record.levelname.lower():7}", self._safe(record.getMessage())]
        words += [f"{name}={self._value(value)}" for name, value in _facts(record).items()]
        if name := request_id.get():
            words.append(f"[{name}]")
        line = " ".join(words).replace("\n", " ")
        trace = where(record.exc_info[1]) if record.exc_info and record.exc_info[1] else []
        return "\n".join([line, *(f"    {self._safe(step)}" for step in trace)])


def where(fault: BaseException) -> list[str]:
    """The kind of the fault and the frames that it passed, outermost first; then those of what had caused it."""
    steps = [type(fault).__name__]
    steps += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(fault.__traceback__)]
    before = fault.__cause__ or (None if fault.__suppress_context__ else fault.__context__)
    return [*steps, *(["caused by", *where(before)] if before else [])]


def log_run(event: Event) -> None:
    """A run's story in the log: that it began, who fell silent, what came out. A watcher."""
    match event:
        case RunStarted():
            facts = {"run_id": event.run_id, "topology": event.topology, "agents": len(event.hears)}
            _log.info("run started", extra={"facts": facts})
        case TurnEnded(turn=Silence() as turn):
            facts = {"run_id": event.run_id, "agent": turn.agent, "round": turn.round, "reason": turn.reason}
            _log.warning("an agent was silent", extra={"facts": facts})
        case VerdictReached():
            spent = event.exchange.usage
            facts = {
                "run_id": event.run_id,
                "seconds": round(event.at, 3),
                "rounds": len(event.exchange.rounds) - 1,
                "support": round(event.verdict.support, 3),
                "lost": len(event.verdict.lost),
                "calls": spent.calls,
                "tokens": spent.tokens,
                "cost_usd": spent.cost_usd,
            }
            _log.info("verdict reached", extra={"facts": facts})


def _facts(record: logging.LogRecord) -> Mapping[str, Any]:
    facts = getattr(record, "facts", None)
    return facts if isinstance(facts, Mapping) else {}
