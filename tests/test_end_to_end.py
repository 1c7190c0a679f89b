"""The main job on real models: two small LLMs think, read each other, and the crowd's answer comes out."""

import json
import signal
import sqlite3
import subprocess
import time

import pytest
from command import EOT, environment, eot
from weights import HOME, weights

pytestmark = pytest.mark.llm

TWO = """
threads = 2
context = 1024
[agents.small]
model = "local/qwen2.5-coder-0.5b"
max_tokens = 48
[agents.tiny]
model = "local/smollm2-135m"
max_tokens = 48
[councils.default]
agents = ["small", "tiny"]
rounds = 1
stop = []
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the two agents' settings, whose home shares this machine's weights but none of its calls."""
    for name in ("qwen2.5-coder-0.5b", "smollm2-135m"):
        weights(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models").symlink_to(HOME / "models")
    (tmp_path / "eot.toml").write_text(TWO)
    return tmp_path


def test_two_real_models_exchange_their_thoughts_and_reach_a_verdict(folder):
    done = eot(folder, "ask", "Ann has 3 apples and buys 4 more. How many apples has she?", "--json", timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rounds = found["exchange"]["rounds"]
    assert [[turn["agent"] for turn in turns] for turns in rounds] == [["small", "tiny"]] * 2
    assert all(turn["type"] == "thought" and turn["text"].strip() for turns in rounds for turn in turns)
    first, second = (sum(turn["usage"]["input_tokens"] for turn in turns) for turns in rounds)
    assert second > 2 * first  # the second prompts hold both first answers
    assert found["verdict"]["shadow"] is not None
    assert found["exchange"]["usage"]["cost_usd"] == 0
    assert done.stderr == ""  # neither the engine nor a library writes on the user's terminal


def test_a_killed_run_of_real_models_recalls_what_it_had(folder):
    words = ["ask", "Name a colour of the rainbow.", "--run-id", "kept", "--json"]
    first = subprocess.Popen(
        [str(EOT), *words], cwd=folder, env=environment(folder / "home"), stdout=subprocess.DEVNULL
    )
    kept = _first_kept(folder / "home" / "calls.sqlite")
    first.send_signal(signal.SIGKILL)
    first.wait()
    found = json.loads(eot(folder, *words, timeout=280).stdout)
    again = {turn["agent"]: turn for turn in found["exchange"]["rounds"][0]}
    assert again[kept["agent"]]["recalled"] is True
    assert again[kept["agent"]]["text"] == kept["text"]


def _first_kept(path):
    for _ in range(2400):
        time.sleep(0.1)
        if not path.exists():
            continue
        with sqlite3.connect(path) as file:
            rows = file.execute("select agent, reply from calls").fetchall()
        if rows:
            return {"agent": rows[0][0], "text": json.loads(rows[0][1])["text"]}
    pytest.fail("no call was kept")
