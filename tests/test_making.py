"""Jobs that make models: in processes of their own, followed, ended, found again; over a real socket."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from serving import serving, settings
from test_grafting import made

from api.child import Child

pytest.importorskip("torch")
import tiny

pytestmark = pytest.mark.torch

SECONDS = 200


def put(home, name, **more):
    """A random model in the home, as if it had been made here."""
    made("llama", home / "built" / name, **more)


@pytest.fixture
def served(tmp_path):
    put(tmp_path, "tiny")
    with serving(settings(tmp_path)) as running:
        yield running


def until(url, job, *statuses):
    ends = time.monotonic() + SECONDS
    while (now := httpx.get(f"{url}/v1/grafts/{job['id']}").json())["status"] not in statuses:
        assert time.monotonic() < ends, now
        time.sleep(0.1)
    return now


def begun(url, **body):
    answer = httpx.post(f"{url}/v1/grafts", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def idle(served):
    """Wait until no job is followed any more."""
    ends = time.monotonic() + SECONDS
    while len(served.service.makings):
        assert time.monotonic() < ends
        time.sleep(0.05)


BUILD = {"action": "build", "models": ["tiny"], "m": 2, "model_name": "deep"}


def test_a_graft_is_built_as_a_job_told_as_events_and_is_then_a_model_by_name(served, tmp_path):
    job = begun(served.url, **BUILD)
    assert (job["status"], job["model"], job["request"]["m"]) == ("queued", "deep", 2)
    told = httpx.get(f"{served.url}/v1/grafts/{job['id']}/events", timeout=SECONDS).text
    assert told.rstrip().rpartition("\n\n")[2].startswith("event: ended")
    assert "event: progress" in told
    ended = until(served.url, job, "completed", "failed")
    assert ended["error"] == ""
    assert ended["result"]["model"] == "local/deep"
    assert ended["result"]["layers"] == ended["progress"]["layers"] == 8
    assert json.loads((tmp_path / "built" / "deep" / "config.json").read_text())["num_hidden_layers"] == 8
    assert not list((tmp_path / "makings").iterdir()), "nothing of it is left but the model"
    counted = httpx.get(f"{served.url}/metrics").text
    assert 'eot_model_jobs_total{action="build",kind="graft",outcome="completed"} 1.0' in counted
    assert "eot_model_jobs_in_work 0.0" in counted
    listed = httpx.get(f"{served.url}/v1/grafts").json()["data"]
    assert [each["id"] for each in listed] == [job["id"]]
    taken = httpx.post(f"{served.url}/v1/grafts", json=BUILD)
    assert (taken.status_code, taken.json()["error"]["code"]) == (400, "name_taken")


def test_what_a_command_refuses_is_the_jobs_error_in_its_words(served):
    ended = until(served.url, begun(served.url, **BUILD | {"m": 7}), "failed")
    assert "0 to 5 can be removed" in ended["error"]
    assert ended["result"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": ["/etc"]},
        {"models": ["../tiny"]},
        {"models": ["http://a/b"]},
        {"models": ["unknown"]},
        {"model_name": "../x"},
        {"model_name": "--out"},
        {"expand": 2},
        {"map": "0-3; rm"},
        {"out": "x"},
    ],
)
def test_a_request_names_no_path_no_address_and_no_option(served, wrong):
    answer = httpx.post(f"{served.url}/v1/grafts", json=BUILD | wrong)
    assert answer.status_code in (404, 422), answer.text
    assert not list(served.service.settings.home.glob("makings/*"))


def test_somebody_elses_file_is_no_text_to_plan_on(served):
    plan = {"action": "plan", "model": "tiny", "text_file_id": "file-0"}
    answer = httpx.post(f"{served.url}/v1/grafts", json=plan)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "text_file_id")


def brought(served, name, text):
    answer = httpx.post(f"{served.url}/v1/files", files={"file": (name, text.encode())}, data={"purpose": "training"})
    return answer.raise_for_status().json()["id"]


HOW = {"every": 3, "held": 2, "length": 16, "learning_rate": 0.003}


def test_a_job_heals_on_texts_that_were_brought_and_tells_its_loss_as_it_falls(served):
    pytest.importorskip("trl")
    tiny.model(served.service.settings.home / "built" / "whole")
    text = "".join(f"Box {n} holds {n * n} pens.\n" for n in range(400))
    files = [brought(served, "Pens (1).txt", text), brought(served, "more.JSON", json.dumps({"text": text}))]
    heal = {"action": "heal", "model": "whole", "model_name": "healed", "corpus_file_ids": files, "control": "whole"}
    ended = until(served.url, begun(served.url, **heal, **HOW, tokens=6 * 4 * 16), "completed", "failed")
    assert ended["error"] == ""
    assert (ended["progress"]["run"], ended["progress"]["step"]) == ("control", 6)
    runs = ended["result"]["runs"]
    assert runs["model"] | {"seconds": 0} == runs["control"] | {"seconds": 0}, "the same model is its own control"
    assert runs["model"]["loss_after"] < runs["model"]["loss_before"]
    assert ended["result"]["folder"] == "built/healed", "no place of this machine is told"
    healed = served.service.settings.home / "built" / "healed"
    assert json.loads((healed / "training.json").read_text())[0]["data"] == "input-0-pens_1_.txt, input-1-more.jsonl"
    curve = httpx.get(f"{served.url}/v1/grafts/{ended['id']}/curve")
    assert (curve.headers["content-type"], curve.content) == ("image/png", (healed / "curve.png").read_bytes())


def test_a_training_that_failed_can_be_asked_for_otherwise(served):
    pytest.importorskip("trl")
    home = served.service.settings.home
    tiny.model(home / "built" / "whole")
    heal = {"action": "heal", "model": "whole", "model_name": "again", "steps": 3, **HOW}
    short = begun(served.url, **heal, corpus_file_ids=[brought(served, "short.txt", "Too short.")])
    ended = until(served.url, short, "completed", "failed")
    assert "less than two windows" in ended["error"]
    packed = begun(served.url, **heal, corpus_file_ids=[brought(served, "c.txt", "PK\x03\x04")])
    ended = until(served.url, packed, "completed", "failed")
    assert ended["error"].startswith("input-0-c.txt is no text but zip: ")
    assert httpx.get(f"{served.url}/v1/grafts/{packed['id']}/curve").status_code == 404
    healed = begun(served.url, **heal, corpus_file_ids=[brought(served, "c.txt", "A box of pens. " * 300)])
    assert until(served.url, healed, "completed", "failed")["error"] == ""


@pytest.fixture
def stuck(monkeypatch):
    """Every job's command sleeps, with a child of its own that does, too."""
    asleep = "import os, subprocess, time; subprocess.Popen(['sleep', '600']); "
    monkeypatch.setattr("api.child._MAIN", asleep + "open('pid', 'w').write(str(os.getpid())); time.sleep(600)")


def group_of(folder):
    ends = time.monotonic() + SECONDS
    while not (folder / "pid").exists() or not (folder / "pid").read_text():
        assert time.monotonic() < ends
        time.sleep(0.02)
    return int((folder / "pid").read_text())


def lives(group):
    """Whether any process of the group is left that is more than an entry in a table."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state != "Z":
                return True
    return False


def test_a_job_that_is_ended_takes_all_its_processes_with_it_and_the_next_one_starts(served, stuck):
    first = begun(served.url, **BUILD)
    waiting = begun(served.url, **BUILD | {"model_name": "other"})
    both = httpx.post(f"{served.url}/v1/grafts", json=BUILD)
    assert (both.status_code, both.json()["error"]["code"]) == (409, "name_taken")
    folder = served.service.settings.home / "makings" / first["id"]
    until(served.url, first, "running")
    group = group_of(folder)
    assert lives(group)
    assert until(served.url, waiting, "queued", "running")["status"] == "queued"
    assert httpx.delete(f"{served.url}/v1/grafts/{first['id']}").json()["status"] == "cancelled"
    until(served.url, waiting, "running")
    assert not lives(group)
    third = begun(served.url, **BUILD | {"model_name": "third"})
    httpx.delete(f"{served.url}/v1/grafts/{third['id']}?forget=true", timeout=2).raise_for_status()
    assert not (served.service.settings.home / "makings" / third["id"]).exists(), "who waits goes at once"
    httpx.delete(f"{served.url}/v1/grafts/{waiting['id']}?forget=true").raise_for_status()
    assert httpx.get(f"{served.url}/v1/grafts/{waiting['id']}").status_code == 404
    idle(served)
    assert not list((served.service.settings.home / "makings").iterdir())


def test_of_jobs_for_one_model_that_come_together_one_is_taken_in(served, stuck):
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: httpx.post(f"{served.url}/v1/grafts", json=BUILD), range(6)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409, 409]
    job = next(answer.json() for answer in answers if answer.status_code == 202)
    httpx.delete(f"{served.url}/v1/grafts/{job['id']}").raise_for_status()
    idle(served)


def test_a_server_that_was_started_again_goes_on_with_its_jobs(tmp_path, stuck):
    put(tmp_path, "tiny")
    with serving(settings(tmp_path)) as served:
        lost, kept = (begun(served.url, **BUILD | {"model_name": name}) for name in ("one", "two"))
        until(served.url, lost, "running")
        group = group_of(tmp_path / "makings" / lost["id"])
    try:
        with serving(settings(tmp_path)) as served:
            assert until(served.url, lost, "running", "failed")["status"] == "running"
            os.killpg(group, signal.SIGKILL)
            ended = until(served.url, lost, "failed")
            assert "without a result" in ended["error"]
            until(served.url, kept, "running")
            httpx.delete(f"{served.url}/v1/grafts/{kept['id']}")
            until(served.url, kept, "cancelled")
            idle(served)
    finally:
        if lives(group):
            os.killpg(group, signal.SIGKILL)


def test_a_jobs_process_is_told_no_key_and_no_setting_but_the_home(tmp_path, monkeypatch):
    monkeypatch.setattr("api.child._MAIN", "import json, os; print(json.dumps(dict(os.environ)))")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("my_provider_key", "sk-secret")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("EOT_SERVE__STORE", "redis://:secret@127.0.0.1/0")
    child = Child(tmp_path)
    child.begin([], tmp_path / "home")
    while child.alive:
        time.sleep(0.02)
    assert "secret" not in json.dumps(child.result)
    assert child.result["TOKENIZERS_PARALLELISM"] == "false"
    assert child.result["EOT_HOME"] == str(tmp_path / "home")
