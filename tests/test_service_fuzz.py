"""Whatever is sent to whatever is in the OpenAPI: an answer in one of two shapes, and never a 500.

`make fuzz` sends 10,000 requests; here it is a few hundred, the same ones each time.
"""

import json
import os
from collections import Counter
from contextlib import suppress
from itertools import count, product

import httpx
import pytest
import schemathesis
from command import scripted
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as drawing
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from serving import process

CASES = int(os.environ.get("FUZZ_CASES", "300"))
MOST_TURNS = 20
ERROR = {"message", "type", "param", "code"}
NOT_HERE = {"weights_missing", "not_installed"}
"""Why a 503 is right: this home has no model for the vote by embeddings."""


@pytest.fixture
def url(tmp_path):
    """In a process of its own: what it draws at random would seem to be drawn by the strategies."""
    scripted(tmp_path, a=["It is 7. The answer is 7."], b=['{"n": 7}'], c=["The answer is 8."])
    with process(tmp_path, EOT_SERVE__LOG_LEVEL="error") as served:
        yield served.url


def wrong_with(answer):
    """What is wrong with this answer, or ""."""
    if answer.status_code >= 400:
        try:
            error = json.loads(answer.content)["error"]
        except (ValueError, KeyError, TypeError):
            return f"{answer.status_code} without an envelope: {answer.text[:200]}"
        right = answer.status_code < 500 or error["code"] in NOT_HERE
        return "" if right and set(error) == ERROR else f"{answer.status_code}: {answer.text[:200]}"
    return "" if answer.headers.get("x-request-id") else "no x-request-id"


def fuzz(url, operation, mode, cases, turn, seen):
    """Send so many requests to one operation; what is wrong with the answers."""
    faults = []

    @seed(turn)
    @drawing(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode))
    def send(case):
        answer = case.call(base_url=url, timeout=30)
        seen[answer.status_code // 100] += 1
        if fault := wrong_with(answer):
            faults.append(f"{operation.label} {case.as_curl_command()[:600]}\n    {fault}")

    with suppress(Unsatisfiable):  # nothing about a request without parameters can be wrong
        send()
    return faults


@pytest.mark.timeout(3600)
def test_nothing_that_is_sent_is_answered_with_a_500(url):
    schema = schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    each, seen, faults = max(2, CASES // (len(operations) * len(modes))), Counter(), []
    for turn in count():  # an operation without parameters is soon exhausted: others are drawn again
        if seen.total() >= CASES or turn > MOST_TURNS:
            break
        for operation, mode in product(operations, modes):
            faults += fuzz(url, operation, mode, each, turn, seen)
    print(seen.total(), "requests:", *(f"{many} x {kind}xx" for kind, many in sorted(seen.items())))  # noqa: T201 - -s
    assert not faults, "\n".join(faults[:8])
    assert seen.total() >= CASES, "the schema is fuzzed, not skipped"
    assert seen[2] > 0
    assert seen[4] > 0
