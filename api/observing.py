"""Who watches what the process does: metrics, the log, traces. All read the one event stream and the calls' records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agents import CallRecord
from api.logs import log_run
from api.metrics import Metrics
from api.tracing import Tracing, open_tracing
from eot.events import Event

_log = logging.getLogger(__name__)


class Observing:
    """Made once a process. The instance is a watcher of runs, and what they watch with never fails a run.

    Raises:
        MissingExtraError: traces are wanted, and the extra is not installed.
    """

    def __init__(self, *, otel: bool = False) -> None:
        self.metrics = Metrics()
        self._tracing: Tracing | None = None
        self._end_tracing: Callable[[], None] | None = None
        if otel:
            self._tracing, self._end_tracing = open_tracing()
        self._broken = False

    def __call__(self, event: Event) -> None:
        self._try(lambda: self._watch(event))

    def call(self, record: CallRecord) -> None:
        """A call has ended."""
        self._try(lambda: self._count(record))

    def ended(self, run_id: str, error: str = "") -> None:
        """A run is over, with a verdict or without."""
        if self._tracing:
            self._tracing.ended(run_id, error)

    async def close(self) -> None:
        if self._end_tracing:
            await asyncio.to_thread(self._end_tracing)

    def _watch(self, event: Event) -> None:
        self.metrics(event)
        log_run(event)
        if self._tracing:
            self._tracing(event)

    def _count(self, record: CallRecord) -> None:
        self.metrics.call(record)
        if self._tracing:
            self._tracing.call(record)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # noqa: BLE001 - who watches must not raise, whatever is wrong with it
            if not self._broken:  # once is enough: it would be told for every token
                _log.exception("what is watched cannot be told")
            self._broken = True
