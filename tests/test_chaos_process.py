"""`eot serve` over SQLite, killed with -9 in the middle of a batch and started again."""

import json
import signal
import threading
import time
from collections import Counter

import httpx
from chat_server import serving as upstream
from serving import process

ITEMS, JOBS = 24, 4


def test_a_server_that_is_killed_in_a_batch_ends_it_and_asks_for_no_paid_call_again(tmp_path):
    """Each item asks two agents. One answers; the other hangs when so many of its answers are out, until the kill."""
    allowed, slow, hanging = 0, 0, 0

    def answer(number, body):
        nonlocal slow, hanging
        if body["model"] == "quick":
            return "The answer is 7."
        with counting:
            slow += 1
            if slow - hanging > allowed:
                hanging += 1
                return None
        return "The answer is 8."

    counting, batch = threading.Lock(), None
    with upstream(answer) as server:
        lines = ["[councils.default]", 'agents = ["quick", "slow"]', "rounds = 0", 'topology = "memory"']
        lines += ["lazy = false", "[serve]", f"jobs = {JOBS}"]
        for name in ("quick", "slow"):
            lines += [f"[agents.{name}]", f'model = "openai/{name}"', f'base_url = "{server.url}"', 'api_key = "none"']
        (tmp_path / "eot.toml").write_text("\n".join(lines))
        for kills, wanted in enumerate((5, 12), 1):
            allowed = wanted
            with process(tmp_path) as served:
                batch = batch or begun(served.url)
                until(lambda kills=kills: hanging == JOBS * kills)
                until(lambda url=served.url, id_=batch, done=wanted: seen(url, id_)["completed"] == done)
                time.sleep(1)  # what the quick one said is kept by then
                served.send_signal(signal.SIGKILL)
                served.wait()
        allowed = ITEMS
        with process(tmp_path) as served:
            until(lambda: seen(served.url, batch)["status"] == "completed")
            told = seen(served.url, batch)
            text = httpx.get(f"{served.url}/v1/files/{told['output_file_id']}/content").text
    assert (told["total"], told["completed"], told["failed"], told["error_file_id"]) == (ITEMS, ITEMS, 0, None)
    assert Counter(json.loads(line)["custom_id"] for line in text.splitlines()) == Counter(
        f"q{k}" for k in range(ITEMS)
    )
    asked = Counter(body["model"] for body in server.bodies)
    assert asked == {"quick": ITEMS, "slow": ITEMS + 2 * JOBS}  # what hung was not answered, and is asked again


def begun(url):
    rows = "".join(
        json.dumps({"custom_id": f"q{k}", "url": "/v1/runs", "body": {"question": f"How many are {k}?"}}) + "\n"
        for k in range(ITEMS)
    )
    brought = httpx.post(f"{url}/v1/files", files={"file": ("in.jsonl", rows)}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": brought["id"], "endpoint": "/v1/runs", "completion_window": "24h"}
    return httpx.post(f"{url}/v1/batches", json=asked).json()["id"]


def seen(url, batch):
    told = httpx.get(f"{url}/v1/batches/{batch}", timeout=20).json()
    return told | told["request_counts"]


def until(condition):
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "it does not come true"
        time.sleep(0.05)
