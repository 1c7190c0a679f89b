"""OpenTelemetry (extra `otel`, off by default): a span for a run, one for each turn, one for each call.

Names and attributes follow the GenAI conventions as of their release 0.1.0, which are all still in development. What
was asked and answered is in no span. Where it all goes is what OpenTelemetry's own OTEL_ variables say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from agents import CallRecord
from eot import __version__
from eot.errors import MissingExtraError
from eot.events import Event, RunStarted, TurnEnded, TurnStarted, VerdictReached
from eot.types import Silence, Turn, Usage

_SCHEMA = "https://opentelemetry.io/schemas/gen-ai/0.1.0"


@dataclass
class _OpenRun:
    span: Span
    turns: dict[tuple[str, int], Span] = field(default_factory=dict)


class Tracing:
    """Turns the story of runs into spans. The instance is a watcher; `call` takes the records of calls."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._runs: dict[str, _OpenRun] = {}
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", unit="{token}", description="Tokens used by a call."
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", unit="s", description="How long a call took."
        )

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._open(event)
            case TurnStarted():
                if run := self._runs.get(event.run_id):
                    facts = {
                        "gen_ai.operation.name": "invoke_agent",
                        "gen_ai.agent.name": event.agent,
                        "eot.round": event.round,
                        "eot.reads": list(event.reads),
                    }
                    run.turns[event.agent, event.round] = self._begin(f"invoke_agent {event.agent}", facts, run.span)
            case TurnEnded():
                self._end_turn(event.run_id, event.turn)
            case VerdictReached():
                if run := self._runs.get(event.run_id):
                    run.span.set_attributes(_usage(event.exchange.usage))
                    run.span.set_attribute("eot.verdict.support", event.verdict.support)
                    run.span.set_attribute("eot.verdict.degraded", event.verdict.degraded)
                self.ended(event.run_id)

    def ended(self, run_id: str, error: str = "") -> None:
        """The run is over, with a verdict or without; its open spans are closed. Told twice, the first time counts."""
        run = self._runs.pop(run_id, None)
        for span in (*run.turns.values(), run.span) if run else ():
            if error:
                _failed(span, error)
            span.end()

    def call(self, record: CallRecord) -> None:
        """A call that has ended."""
        run = self._runs.get(record.run_id)
        parent = run.turns.get((record.agent, record.round)) if run else None
        facts = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": record.model.partition("/")[0],
            "gen_ai.request.model": record.model,
        }
        now = time.time_ns()
        span = self._begin(
            f"chat {record.model}",
            facts | _usage(record.usage),
            parent,
            kind=SpanKind.CLIENT,
            start=now - int(record.seconds * 1e9),
        )
        if record.first_token_seconds is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", record.first_token_seconds)
        if record.outcome != "ok":
            _failed(span, record.outcome)
            facts["error.type"] = record.outcome
        span.end(now)
        self._seconds.record(record.seconds, facts)
        self._tokens.record(record.usage.input_tokens, facts | {"gen_ai.token.type": "input"})
        self._tokens.record(record.usage.output_tokens, facts | {"gen_ai.token.type": "output"})

    def _open(self, event: RunStarted) -> None:
        facts = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.agent.name": f"eot/{event.topology}",
            "eot.run.id": event.run_id,
            "eot.agents": list(event.hears),
            "eot.rounds.max": event.max_rounds,
        }
        self._runs[event.run_id] = _OpenRun(self._begin(f"invoke_workflow eot/{event.topology}", facts))

    def _end_turn(self, run_id: str, turn: Turn) -> None:
        run = self._runs.get(run_id)
        span = run.turns.pop((turn.agent, turn.round), None) if run else None
        if span is None:
            return
        span.set_attributes(_usage(turn.usage))
        if isinstance(turn, Silence):
            _failed(span, turn.reason)
        span.end()

    def _begin(
        self,
        name: str,
        facts: Mapping[str, Any],
        parent: Span | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        start: int | None = None,
    ) -> Span:
        inside = trace.set_span_in_context(parent) if parent else None
        return self._tracer.start_span(name, context=inside, kind=kind, attributes=facts, start_time=start)


def open_tracing() -> tuple[Tracing, Callable[[], None]]:
    """Traces and measures that are sent away in the background, and what sends the rest and ends it (it may block).

    Raises:
        MissingExtraError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as fault:
        raise MissingExtraError("serve.otel", "otel") from fault
    named = {"service.version": __version__} | ({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "eot"})
    resource = Resource.create(named)
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    measures = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())])

    def close() -> None:
        spans.shutdown()
        measures.shutdown()

    tracer = spans.get_tracer("eot", __version__, schema_url=_SCHEMA)
    return Tracing(tracer, measures.get_meter("eot", __version__, schema_url=_SCHEMA)), close


@contextmanager
def continued(headers: Mapping[str, str]) -> Iterator[None]:
    """Inside, spans belong to the trace that the request's `traceparent` names, if it names one."""
    token = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(token)


def _usage(usage: Usage) -> dict[str, Any]:
    told: dict[str, Any] = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    return told if usage.cost_usd is None else told | {"eot.cost_usd": usage.cost_usd}


def _failed(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR, error)
