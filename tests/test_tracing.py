"""OpenTelemetry: what the spans of a run say, that they reach a collector, and that no text is in them."""

import asyncio
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra eot[otel]")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from serving import settings

from api.compose import House
from api.observing import Observing
from api.tracing import Tracing, continued
from eot.errors import NoQuorumError
from eot.types import Question
from topologies import run

QUESTION, ANSWER = "What is canary-question + 4?", "canary-reply. The answer is 7."


@pytest.fixture
def told():
    """A Tracing, the spans it made and the metrics it measured."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider(metric_readers=[reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    yield Tracing(tracers.get_tracer("t"), meters.get_meter("t")), spans, reader
    tracers.shutdown()
    meters.shutdown()


async def play(tmp_path, observe, watch, agents):
    table = settings(tmp_path, agents=agents, councils={"default": {"agents": list(agents), "stop": [], "rounds": 1}})
    house = House(table, observe=observe)
    try:
        council = await house.council(table.councils["default"])
        return await run(council, Question(text=QUESTION), run_id="r", watch=watch)
    finally:
        await house.close()


async def test_a_run_is_a_tree_of_spans_in_the_callers_trace(tmp_path, told):
    tracing, spans, reader = told
    with continued({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
        await play(tmp_path, tracing.call, tracing, {"a": [ANSWER], "b": [ANSWER]})
    made = spans.get_finished_spans()
    by_id = {span.context.span_id: span for span in made}
    [workflow] = [span for span in made if span.attributes["gen_ai.operation.name"] == "invoke_workflow"]
    agents = [span for span in made if span.name in ("invoke_agent a", "invoke_agent b")]
    chats = [span for span in made if span.name == "chat scripted"]
    assert (len(agents), len(chats), len(made)) == (4, 4, 9)
    assert {span.context.trace_id for span in made} == {0x0AF7651916CD43DD8448EB211C80319C}
    assert workflow.parent.span_id == 0xB7AD6B7169203331
    assert {span.parent.span_id for span in agents} == {workflow.context.span_id}
    assert {by_id[span.parent.span_id].name for span in chats} == {"invoke_agent a", "invoke_agent b"}
    assert all(span.attributes["gen_ai.usage.output_tokens"] > 0 for span in made)
    assert workflow.attributes["eot.verdict.support"] == 1
    names = {m.name for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert names == {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"}
    assert "canary" not in "".join(span.to_json() for span in made)


async def test_a_run_that_fails_leaves_no_span_open(tmp_path, told):
    tracing, spans, _ = told
    silent = [""]
    with pytest.raises(NoQuorumError):
        await play(tmp_path, tracing.call, tracing, {"a": silent, "b": silent})
    tracing.ended("r", "NoQuorumError")
    tracing.ended("r", "again")
    made = {span.name: span for span in spans.get_finished_spans()}
    assert made["invoke_workflow eot/report"].attributes["error.type"] == "NoQuorumError"
    assert made["invoke_agent a"].attributes["error.type"]
    assert not tracing._runs


@asynccontextmanager
async def collector():
    """What an OTLP collector is sent, on loopback."""
    bodies = []

    async def handle(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
        bodies.append((head.split()[1], await reader.readexactly(size)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", bodies
    finally:
        listener.close()


async def test_spans_reach_a_collector_and_no_text_does(tmp_path, monkeypatch):
    async with collector() as (url, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        observing = await asyncio.to_thread(Observing, otel=True)
        await play(tmp_path, observing.call, observing, {"a": [ANSWER]})
        await observing.close()
    assert {path for path, _ in bodies} == {"/v1/traces", "/v1/metrics"}
    sent = b"".join(body for _, body in bodies)
    assert b"invoke_workflow" in sent
    assert b"canary" not in sent
