"""`eot serve` over SQLite, killed with -9 in the middle of a batch and started again."""

import json
import signal
import time
from collections import Counter

import httpx
from chat_server import serving as upstream
from serving import process

ITEMS = 30


def test_a_server_that_is_killed_in_a_batch_ends_it_and_asks_for_no_paid_call_again(tmp_path):
    """The council has two agents: the one that is slow holds items open whose other call has been paid."""

    def answer(number, body):
        time.sleep(0.4 if body["model"] == "slow" else 0.02)
        return "The answer is 7."

    with upstream(answer) as server:
        lines = ["[councils.default]", 'agents = ["quick", "slow"]', "rounds = 0", 'topology = "memory"']
        lines += ["lazy = false", "[serve]", "jobs = 4"]
        for name in ("quick", "slow"):
            lines += [f"[agents.{name}]", f'model = "openai/{name}"', f'base_url = "{server.url}"', 'api_key = "none"']
        (tmp_path / "eot.toml").write_text("\n".join(lines))
        batch, killed_at = None, []
        for done in (3, 12, 20, ITEMS):
            with process(tmp_path) as served:
                batch = batch or begun(served.url)
                ended = until(served.url, batch, done)
                if done < ITEMS:
                    served.send_signal(signal.SIGKILL)
                    served.wait()
                    killed_at.append(ended["request_counts"]["completed"])
                else:
                    text = httpx.get(f"{served.url}/v1/files/{ended['output_file_id']}/content").text
    assert all(count < ITEMS for count in killed_at)
    assert (ended["status"], ended["error_file_id"]) == ("completed", None)
    assert ended["request_counts"] == {"total": ITEMS, "completed": ITEMS, "failed": 0}
    assert Counter(json.loads(line)["custom_id"] for line in text.splitlines()) == Counter(
        f"q{k}" for k in range(ITEMS)
    )
    asked = Counter((body["model"], json.dumps(body["messages"])) for body in server.bodies)
    assert len(asked) == 2 * ITEMS
    # Of what was under way when the server died nobody knows whether it was answered: at most that is asked again.
    twice = Counter(model for (model, _), times in asked.items() for _ in range(times - 1))
    assert twice["slow"] <= 3 * 4
    assert twice["quick"] <= 3


def begun(url):
    rows = "".join(
        json.dumps({"custom_id": f"q{k}", "url": "/v1/runs", "body": {"question": f"How many are {k}?"}}) + "\n"
        for k in range(ITEMS)
    )
    brought = httpx.post(f"{url}/v1/files", files={"file": ("in.jsonl", rows)}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": brought["id"], "endpoint": "/v1/runs", "completion_window": "24h"}
    return httpx.post(f"{url}/v1/batches", json=asked).json()["id"]


def until(url, batch, done):
    """The batch when so many items are done; all of them: when it has ended."""
    ends = time.monotonic() + 60
    while True:
        told = httpx.get(f"{url}/v1/batches/{batch}", timeout=20).json()
        if told["status"] == "completed" or done <= told["request_counts"]["completed"] < ITEMS:
            return told
        assert time.monotonic() < ends, told
        time.sleep(0.05)
