"""eot's own surface over a real socket: runs that outlive their askers, votes, and what there is to choose from."""

import json
import os
import signal
import threading
import time

import httpx
import pytest
from chat_server import serving as upstream
from command import scripted
from serving import process, serving, settings


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    agents = {
        "a": ["I count. The answer is 7."],
        "b": ["The answer is 7."],
        "c": ["The answer is 8.", "I was wrong. The answer is 7."],
        "slow": ["!hang"],
        "dead": ["!fail"],
    }
    councils = {
        "default": {"agents": ["a", "b", "c"], "lazy": False, "budget": {"calls": 20}},
        "slow": {"agents": ["a", "slow"], "topology": "memory", "quorum": 1, "stop": []},
        "stuck": {"agents": ["slow"]},
        "dead": {"agents": ["dead"]},
    }
    wanted = settings(
        tmp_path_factory.mktemp("home"),
        agents=agents,
        councils=councils,
        topologies={"chain": {"x": ("y",), "y": ("z",), "z": ()}},
        serve={"keep_alive_seconds": 0.2},
    )
    with serving(wanted) as found:
        yield found


@pytest.fixture
def url(served):
    return served.url


def begin(url, question="How many eggs are left?", **more):
    begun = httpx.post(f"{url}/v1/runs", json={"question": question} | more)
    assert begun.status_code == 202, begun.text
    assert begun.headers["location"] == f"/v1/runs/{begun.json()['id']}"
    return begun.json()


def ended(url, run):
    return httpx.get(f"{url}/v1/runs/{run['id']}", params={"wait": 20}, timeout=30).json()


def events(url, run, after=None, until=None):
    """(number, name, data) of each event, to the end or to the first named `until`."""
    headers = {} if after is None else {"last-event-id": str(after)}
    found, number, name = [], None, None
    with httpx.stream("GET", f"{url}/v1/runs/{run['id']}/events", headers=headers, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            key, _, value = line.partition(": ")
            if key == "id":
                number = int(value)
            elif key == "event":
                name = value
            elif key == "data":
                found.append((number, name, json.loads(value)))
                if name == until:
                    break
    return found


def test_a_run_answers_at_once_and_ends_with_its_result(url):
    run = begin(url, {"text": "How many eggs are left?", "kind": "number"})
    assert (run["object"], run["title"]) == ("run", "How many eggs are left?")
    done = ended(url, run)
    assert done["status"] == "completed"
    assert done["result"]["verdict"]["answer"] == "7"
    assert done["result"]["exchange"]["id"] == run["id"]
    assert done["error"] is None
    assert done["request"] == {"question": run["request"]["question"], "council": "default", "seed": 0}


def test_the_events_tell_the_run_and_can_be_told_again(url):
    run = begin(url)
    live, again = events(url, run), events(url, run)
    names = [name for _, name, _ in again]
    assert names[0] == "run_started"
    assert names[-4:] == ["stopped", "vote_started", "verdict_reached", "ended"]
    assert "token" not in names, "a turn that has ended is told as a whole"
    assert [event for event in live if event[1] not in ("token", "ping")] == again
    half = again[4][0]
    assert events(url, run, after=half) == again[5:]


def test_after_its_last_event_there_is_no_more(url):
    run = begin(url)
    last = events(url, run)[-1][0]
    done = httpx.get(f"{url}/v1/runs/{run['id']}/events", headers={"last-event-id": str(last)})
    assert done.status_code == 204


def test_an_inline_council_is_the_default_one_with_changes(url):
    council = {"agents": ["c", "a"], "topology": "memory", "rounds": 1, "stop": [], "vote": "majority"}
    exchange = ended(url, begin(url, council=council))["result"]["exchange"]
    assert list(exchange["hears"]) == ["c", "a"]
    assert len(exchange["rounds"]) == 2
    assert ended(url, begin(url, council="debate"))["result"]["exchange"]["topology"] == "debate"
    assert ended(url, begin(url, council="chain"))["result"]["exchange"]["topology"] == "chain"


def test_a_request_cannot_lift_the_operators_caps(url):
    wide = ended(url, begin(url, council={"stop": [], "rounds": 20, "budget": {"calls": 1000}}))
    assert wide["result"]["exchange"]["usage"]["calls"] <= 20
    assert wide["result"]["exchange"]["stop"]["rule"] == "budget"
    low = ended(url, begin(url, council={"stop": [], "rounds": 20, "budget": {"calls": 4}}))
    assert low["result"]["exchange"]["usage"]["calls"] <= 4


@pytest.mark.parametrize(
    ("council", "status", "said"),
    [
        ("nobody", 404, "There is no model called 'eot/nobody'"),
        ({"agents": ["a", "stranger"]}, 404, "There is no agent called 'stranger'"),
        ({"agents": ["a", "a"]}, 400, "two agents are called 'a'"),
        ({"topology": "circle"}, 404, "There is no topology called 'circle'"),
        ({"agents": ["a", "b"], "topology": "debate"}, 400, "at least 3 agents"),
        ({"quorum": 9}, 400, "quorum of 9"),
        ({"base_url": "http://127.0.0.1:1"}, 422, "base_url"),
        ({"rounds": 21}, 422, "rounds"),
    ],
)
def test_a_council_that_cannot_sit_is_refused(url, council, status, said):
    answer = httpx.post(f"{url}/v1/runs", json={"question": "Why?", "council": council})
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_deleting_a_run_stops_it_and_keeps_what_was_said(url):
    run = begin(url, {"text": "How many eggs are left?", "kind": "number"}, council="slow")
    events(url, run, until="turn_ended")
    stopped = httpx.delete(f"{url}/v1/runs/{run['id']}", timeout=10).json()
    assert stopped["status"] == "stopped"
    assert stopped["result"]["verdict"]["answer"] == "7"
    assert stopped["result"]["exchange"]["stop"]["rule"] == "stopped"
    assert stopped["result"]["verdict"]["lost"] == ["slow"]
    assert events(url, run)[-1][2]["status"] == "stopped"


def test_a_run_stopped_before_anybody_spoke_says_so(url):
    run = begin(url, council="stuck")
    stopped = httpx.delete(f"{url}/v1/runs/{run['id']}", timeout=10).json()
    assert (stopped["status"], stopped["result"]) == ("stopped", None)
    assert "the run was stopped" in stopped["error"]["message"]


def test_a_run_that_fails_says_why(url):
    failed = ended(url, begin(url, council="dead"))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "no_quorum")


def test_a_run_goes_on_when_its_listener_goes(url):
    body = {"question": "How many eggs are left?", "council": "slow", "stream": True}
    with httpx.stream("POST", f"{url}/v1/runs", json=body) as answer:
        run = {"id": answer.headers["location"].rpartition("/")[2]}
        lines = answer.iter_lines()
        assert next(lines) == "event: run_started"
    time.sleep(0.3)
    assert httpx.get(f"{url}/v1/runs/{run['id']}").json()["status"] == "running"
    assert "ping" in [name for _, name, _ in events(url, run, until="ping")]
    httpx.delete(f"{url}/v1/runs/{run['id']}")


def test_runs_are_listed_newest_first_and_found_by_words(url):
    names = [begin(url, f"How many Kumquats in basket {number}?")["id"] for number in range(3)]
    found = httpx.get(f"{url}/v1/runs", params={"q": "kumquats", "limit": 2}).json()
    assert [row["id"] for row in found["data"]] == names[:0:-1]
    assert found["has_more"] is True
    rest = httpx.get(f"{url}/v1/runs", params={"q": "kumquats", "after": names[1]}).json()
    assert [row["id"] for row in rest["data"]] == names[:1]
    assert "result" not in rest["data"][0]


def test_a_run_can_be_forgotten(url):
    run = begin(url)
    gone = httpx.delete(f"{url}/v1/runs/{run['id']}", params={"forget": True}).json()
    assert gone == {"id": run["id"], "object": "run.deleted", "deleted": True}
    for missing in (httpx.get(f"{url}/v1/runs/{run['id']}"), httpx.delete(f"{url}/v1/runs/{run['id']}")):
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_a_run_survives_the_death_of_the_server_and_pays_no_call_twice(tmp_path):
    """One agent has answered, the other hangs; the process is killed; the next one asks only the one that hung."""
    answers = {"second": None}
    with upstream(lambda number, body: "The answer is 7." if "quick" in str(body) else answers["second"]) as server:
        lines = ["[councils.default]", 'agents = ["quick", "late"]', "rounds = 0", 'topology = "memory"']
        for name in ("quick", "late"):
            lines += [f"[agents.{name}]", f'model = "openai/{name}"', f'base_url = "{server.url}"', 'api_key = "none"']
        (tmp_path / "eot.toml").write_text("\n".join(lines))
        with process(tmp_path) as first:
            run = begin(first.url, {"text": "How many?", "kind": "number"})
            events(first.url, run, until="turn_ended")
            assert server.hung.wait(20)
            first.send_signal(signal.SIGKILL)
            first.wait()
        answers["second"] = "The answer is 8."
        with process(tmp_path) as second:
            done = httpx.get(f"{second.url}/v1/runs/{run['id']}", params={"wait": 30}, timeout=40).json()
    assert done["status"] == "completed"
    assert [thought["recalled"] for thought in done["result"]["exchange"]["rounds"][0]] == [True, False]
    assert [body["model"] for body in server.bodies].count("quick") == 1


def test_sigterm_lets_a_run_end_and_keeps_it(tmp_path):
    scripted(tmp_path, a=["!hang"])
    text = (tmp_path / "eot.toml").read_text() + "[serve]\ndrain_seconds = 0.5\n"
    (tmp_path / "eot.toml").write_text(text)
    with process(tmp_path) as served:
        run = begin(served.url)
        os.kill(served.pid, signal.SIGTERM)
        time.sleep(0.2)
        assert httpx.post(f"{served.url}/v1/runs", json={"question": "Another?"}).status_code == 503
        served.wait(10)
    with process(tmp_path) as again:
        assert httpx.get(f"{again.url}/v1/runs/{run['id']}").json()["status"] == "stopped"


def test_answers_from_anywhere_are_voted_on_with_the_whole_matrix(url):
    body = {"question": "How many?", "kind": "number", "candidates": ["It is 7.", {"agent": "z", "text": "7!"}, "8"]}
    told = httpx.post(f"{url}/v1/votes", json=body).json()
    assert (told["verdict"]["answer"], told["verdict"]["how"]) == ("7", "majority 2 of 3")
    assert told["voters"] == ["1", "z", "3"]
    matrix = told["scores"]["word_a_f"]
    assert len(matrix) == 3
    assert all(len(row) == 3 for row in matrix)
    assert matrix[0][0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"candidates": []}, 422),
        ({"candidates": ["", ""]}, 400),
        ({"candidates": [{"agent": "a"}]}, 400),
        ({"candidates": ["x"], "method": "loudest"}, 422),
        ({"candidates": [{"text": "x", "weight": 0}]}, 422),
        ({"candidates": ["x" * 150_000] * 2}, 413),
        ({"candidates": ["x", "y"], "question": "x" * 200_000}, 413),
    ],
)
def test_votes_on_nothing_are_refused(url, body, status):
    answer = httpx.post(f"{url}/v1/votes", json=body)
    assert answer.status_code == status, answer.text


WORDS = " ".join(f"w{at}" for at in range(900))


@pytest.mark.parametrize("text", [WORDS, "a." * 2_000, " ." * 2_000])
def test_a_vote_that_would_take_hours_is_refused_at_once(url, text):
    begun = time.monotonic()
    answer = httpx.post(f"{url}/v1/votes", json={"candidates": [text] * 12, "wsdm": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_much_work")
    assert "send fewer or shorter texts" in answer.json()["error"]["message"]
    assert time.monotonic() - begun < 5


def test_others_are_answered_while_votes_are_computed(url):
    """The heaviest votes that are taken, four at once."""
    heavy = {"candidates": [WORDS[:2_400]] * 4, "wsdm": True, "kind": "open", "method": "word_a_f"}
    slowest, codes = 0.0, []
    voters = [
        threading.Thread(target=lambda: codes.append(httpx.post(f"{url}/v1/votes", json=heavy, timeout=60).status_code))
        for _ in range(4)
    ]
    for voter in voters:
        voter.start()
    while any(voter.is_alive() for voter in voters):
        begun = time.monotonic()
        assert httpx.get(f"{url}/health/live").status_code == 200
        slowest = max(slowest, time.monotonic() - begun)
    assert codes == [200] * 4
    assert slowest < 1, "a fraction of it on a quiet machine"


def test_what_there_is_can_be_listed(url):
    shapes = {shape["id"]: shape for shape in httpx.get(f"{url}/v1/topologies").json()["data"]}
    assert list(shapes) == ["memory", "report", "relay", "debate", "chain"]
    assert shapes["report"]["hears"] == {"a": ["a", "b", "c"], "b": ["a", "b"], "c": ["a", "c"]}
    assert (shapes["report"]["messages"], shapes["chain"]["own"], shapes["debate"]["fewest_seats"]) == (7, True, 3)
    agents = httpx.get(f"{url}/v1/agents").json()["data"]
    assert [agent["id"] for agent in agents] == ["a", "b", "c", "slow", "dead"]
    assert not {"api_key", "base_url", "script"} & set(agents[0])
    councils = {each["id"]: each["council"] for each in httpx.get(f"{url}/v1/councils").json()["data"]}
    assert councils["default"]["agents"] == ["a", "b", "c"]
