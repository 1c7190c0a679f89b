"""What Prometheus is told. Fed by the one event stream, by the records of calls and by the HTTP rim; computes nothing.

Labels are names that the operator has configured, or belong to a closed set: nothing that a request says becomes one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from agents import CallRecord
from api.store import STORE_FAULTS, Store
from eot import __version__
from eot.events import Event, RunStarted, TurnEnded, VerdictReached
from eot.types import Silence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """One process's metrics, in a registry of their own. The instance is itself a watcher of runs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauge("eot_info", "The version that runs, as a label.", "version").labels(__version__).set(1)
        self._requests = self._counter("eot_requests_total", "HTTP requests answered.", "method", "route", "status")
        self._request_seconds = self._histogram(
            "eot_request_seconds", "From a request's head to the last byte of its answer.", "route"
        )
        self._in_flight = self._gauge("eot_requests_in_flight", "HTTP requests under way.")
        self._runs = self._counter("eot_runs_started_total", "Runs begun.", "topology")
        self._verdicts = self._counter("eot_verdicts_total", "Runs that came to a verdict.", "topology", "degraded")
        self._run_seconds = self._histogram("eot_run_seconds", "From a run's start to its verdict.", "topology")
        self._support = self._histogram(
            "eot_verdict_support_ratio", "Agreement: the winner's share of the ballots.", "topology", buckets=_SHARES
        )
        self._changed = self._counter(
            "eot_verdicts_changed_total", "Verdicts that the first answers alone would not have given.", "topology"
        )
        self._turns = self._counter("eot_turns_total", "Agents' turns by how they ended.", "agent", "outcome")
        self._calls = self._counter("eot_calls_total", "Calls by how they ended.", "agent", "model", "outcome")
        self._call_seconds = self._histogram("eot_call_seconds", "One call, however it ended.", "agent", "model")
        self._first_token = self._histogram("eot_first_token_seconds", "From call to first text.", "agent", "model")
        self._tokens = self._counter("eot_tokens_total", "Tokens paid for.", "agent", "model", "direction")
        self._cost = self._counter("eot_cost_usd_total", "Dollars, where the price is known.", "agent", "model")
        self._unpriced = self._counter("eot_calls_unpriced_total", "Calls whose price nobody knows.", "agent", "model")

        self._makings = self._counter(
            "eot_model_jobs_total", "Jobs that make models, by how they ended.", "kind", "action", "outcome"
        )
        self._items = self._counter(
            "eot_batch_items_total",
            "Requests of batches by what came of them here: completed, failed, too_late, tried_again, left for later.",
            "outcome",
        )
        self._waiting = self._gauge("eot_batch_items_waiting", "Requests of batches without an outcome yet.")
        self._oldest = self._gauge("eot_batch_oldest_seconds", "Age of the oldest batch that has not ended; else 0.")

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._runs.labels(event.topology).inc()
            case TurnEnded():
                outcome = event.turn.reason if isinstance(event.turn, Silence) else "ok"
                self._turns.labels(event.turn.agent, outcome).inc()
            case VerdictReached():
                topology, verdict = event.exchange.topology, event.verdict
                self._verdicts.labels(topology, str(verdict.degraded).lower()).inc()
                self._run_seconds.labels(topology).observe(event.at)
                self._support.labels(topology).observe(verdict.support)
                if verdict.changed:
                    self._changed.labels(topology).inc()

    def call(self, record: CallRecord) -> None:
        """Count one call: what `House(observe=)` is given."""
        who = (record.agent, record.model)
        self._calls.labels(*who, record.outcome).inc()
        self._call_seconds.labels(*who).observe(record.seconds)
        if record.first_token_seconds is not None:
            self._first_token.labels(*who).observe(record.first_token_seconds)
        self._tokens.labels(*who, "input").inc(record.usage.input_tokens)
        self._tokens.labels(*who, "output").inc(record.usage.output_tokens)
        if record.usage.cost_usd is None:
            self._unpriced.labels(*who).inc()
        else:
            self._cost.labels(*who).inc(record.usage.cost_usd)

    def request_began(self) -> None:
        self._in_flight.inc()

    def request_ended(self, method: str, route: str, status: int, seconds: float) -> None:
        self._in_flight.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def making_ended(self, kind: str, action: str, outcome: str) -> None:
        """A model was made, or was not. All three are words of closed sets."""
        self._makings.labels(kind, action, outcome).inc()

    def item(self, outcome: str) -> None:
        """Something came of a request of a batch."""
        self._items.labels(outcome).inc()

    def batches(self, waiting: int, oldest_seconds: float) -> None:
        """What the store says of all batches, whoever works on them."""
        self._waiting.set(waiting)
        self._oldest.set(oldest_seconds)

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A number that is read when Prometheus asks."""
        self._gauge(name, what).set_function(read)

    def render(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    async def rendered(self, store: Store) -> bytes:
        """The same, with a look at the batches in the store. One that is away is told as it was seen last."""
        with suppress(*STORE_FAULTS):
            active = await store.batches.active()
            left = [(await store.items.counts(batch.id)).left for batch in active]
            self.batches(sum(left), max((time.time() - batch.created for batch in active), default=0.0))
        return self.render()

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(name, what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(name, what, labels, registry=self.registry, buckets=buckets)
