"""What Prometheus is told of a run, and over HTTP."""

import json
import re
import threading

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import serving, settings

from agents import CallRecord
from api.compose import House
from api.metrics import Metrics
from eot.types import Question, Usage
from topologies import run


def values(metrics):
    """Every sample by name and labels, as `name{a,b}`: label values in the order of their names."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found[f"{sample.name}{{{','.join(sample.labels[name] for name in sorted(sample.labels))}}}"] = sample.value
    return found


async def test_a_run_is_counted_from_its_events_and_its_calls(tmp_path):
    metrics = Metrics()
    table = settings(tmp_path, councils={"default": {"agents": ["a", "b", "c"], "stop": [], "rounds": 1}})
    house = House(table, observe=metrics.call)
    try:
        council = await house.council(table.councils["default"])
        result = await run(council, Question(text="What is 3 + 4?"), run_id="r", watch=metrics)
    finally:
        await house.close()
    told, topology = values(metrics), table.councils["default"].topology
    assert told[f"eot_runs_started_total{{{topology}}}"] == 1
    assert told[f"eot_verdicts_total{{false,{topology}}}"] == 1
    assert told[f"eot_verdict_support_ratio_sum{{{topology}}}"] == pytest.approx(result.verdict.support)
    assert told["eot_turns_total{a,ok}"] == 2
    assert told["eot_calls_total{a,scripted,ok}"] == 2
    assert told["eot_tokens_total{a,output,scripted}"] == sum(
        thought.usage.output_tokens for thought in result.exchange.of("a")
    )
    assert told["eot_call_seconds_count{a,scripted}"] == 2


def test_a_call_without_a_price_is_counted_apart():
    metrics = Metrics()
    record = CallRecord(agent="a", model="m", round=0, outcome="ok", seconds=1, usage=Usage(calls=1, cost_usd=None))
    metrics.call(record)
    metrics.call(record.model_copy(update={"usage": Usage(calls=1, cost_usd=0.25), "outcome": "rate limit"}))
    told = values(metrics)
    assert (told["eot_calls_unpriced_total{a,m}"], told["eot_cost_usd_total{a,m}"]) == (1, 0.25)
    assert told["eot_calls_total{a,m,rate limit}"] == 1


def test_a_request_is_counted_by_its_route_and_never_by_its_path(tmp_path):
    with serving(settings(tmp_path)) as served:
        for path in ("/health/live", "/canary-1", "/canary-2?a=canary-3"):
            httpx.get(served.url + path)
        httpx.request("PROPFIND", f"{served.url}/health/live")
        told = httpx.get(f"{served.url}/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'eot_requests_total{method="GET",route="/health/live",status="200"} 1.0' in told.text
    assert 'eot_requests_total{method="GET",route="none",status="404"} 2.0' in told.text
    assert 'eot_requests_total{method="other",route="/health/live",status="405"} 1.0' in told.text
    assert "canary" not in told.text.lower()
    assert "eot_requests_in_flight 1.0" in told.text
    assert "eot_runs_in_flight 0.0" in told.text


def test_names_follow_prometheus():
    names = {family.name for family in Metrics().registry.collect() if family.name.startswith("eot_")}
    assert all(re.fullmatch(r"eot_[a-z_]+", name) for name in names)
    assert len(names) == 20


def test_batches_that_wait_are_counted(tmp_path):
    chat = {"model": "agent/slow", "messages": [{"role": "user", "content": "What is 3 + 4?"}]}
    lines = [{"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": chat} for n in range(3)]
    with serving(settings(tmp_path, agents={"slow": ["!hang"]})) as served, httpx.Client(base_url=served.url) as http:
        assert "eot_batch_items_waiting 0.0" in http.get("/metrics").text
        sent = {"file": ("in.jsonl", "\n".join(map(json.dumps, lines)))}
        file = http.post("/v1/files", files=sent, data={"purpose": "batch"}).json()["id"]
        batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        made = http.post("/v1/batches", json=batch).json()["id"]
        for _ in range(100):
            if "eot_batch_items_waiting 3.0" in (told := http.get("/metrics").text):
                break
            threading.Event().wait(0.1)
        assert "eot_batch_items_waiting 3.0" in told
        assert "eot_batch_oldest_seconds 0.0" not in told
        http.post(f"/v1/batches/{made}/cancel")
