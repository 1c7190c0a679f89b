"""`eot` as a process: what it prints, what it refuses and how it ends."""

import json
import re
import signal
import sqlite3
import subprocess
import time

import pytest
from chat_server import serving
from command import EOT, environment, eot, scripted

ASKED = "How many eggs are left?"
AGREED = {"a": ["The answer is 18."], "b": ["So the answer is 18."], "c": ["The answer is 18.0"]}


def test_a_piped_question_prints_the_rounds_the_vote_and_the_verdict(tmp_path):
    scripted(tmp_path, a=["The answer is 18.", "The answer is 7."], b=["The answer is 7."], c=["The answer is 9."])
    done = eot(tmp_path, "ask", ASKED)
    assert done.returncode == 0, done.stderr
    for expected in ("who reads whom", "round 0", "round 1", "majority", "the exchange", "moved: a 18 → 7", "calls"):
        assert expected in done.stdout
    assert "\x1b" not in done.stdout  # no live view when piped


def test_json_is_one_object_with_question_exchange_and_verdict(tmp_path):
    scripted(tmp_path, **AGREED)
    done = eot(tmp_path, "ask", ASKED, "--json")
    found = json.loads(done.stdout)
    assert set(found) == {"question", "exchange", "verdict"}
    assert found["verdict"]["answer"] == "18"
    assert found["verdict"]["changed"] is False
    assert found["exchange"]["usage"]["calls"] == 2  # the third could change nothing


def test_a_question_can_come_from_standard_input(tmp_path):
    scripted(tmp_path, **AGREED)
    assert json.loads(eot(tmp_path, "ask", "-", "--json", stdin=ASKED).stdout)["question"]["text"] == ASKED


def test_full_prints_every_agents_reasoning(tmp_path):
    scripted(tmp_path, **AGREED)
    assert "So the answer is 18." in eot(tmp_path, "ask", ASKED, "--full").stdout


def test_one_agent_is_allowed_and_said_to_be_alone(tmp_path):
    scripted(tmp_path, only=["The answer is 18."])
    done = eot(tmp_path, "ask", ASKED)
    assert done.returncode == 0
    assert "one agent has nobody to exchange with" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ask", ""], "the question is empty"),
        (["ask", "   "], "the question is empty"),
        (["ask", "-"], "at most 200,000 are taken"),
        (["ask", ASKED, "--agents", "a,zed"], "There is no agent called 'zed'"),
        (["ask", ASKED, "--agents", "a,a"], "two agents are called 'a'"),
        (["ask", ASKED, "--topology", "repotr"], "Did you mean 'report'?"),
        (["ask", ASKED, "--topology", "debate", "--agents", "a,b"], "debate wants at least 3 agents"),
        (["ask", ASKED, "--vote", "loudest"], "--vote: read 'loudest'; input should be 'auto'"),
        (["ask", ASKED, "--stop", "soon"], "--stop: read 'soon'"),
        (["ask", ASKED, "--rounds", "-1"], "--rounds: read -1"),
        (["ask", ASKED, "--council", "elders"], "There is no council called 'elders'"),
        (["ask", ASKED, "--choice", "red"], "write it as LETTER=TEXT"),
        (["ask", ASKED, "--choice", "A=red", "--choice", "A=blue"], "two choices have one letter"),
        (["ask", ASKED, "--quorum", "9"], "a quorum of 9 cannot be reached by 3 agents"),
        (["ask", ASKED, "--agents", ""], "--agents"),
        (["ask", ASKED, "--kind", "choice"], "needs two choices"),
        (["ask", ASKED, "--kind", "riddle"], "'number', 'choice', 'yesno'"),
        (["ask", ASKED, "--config", "none.toml"], "there is no file none.toml"),
        (["vote", "none.jsonl"], "none.jsonl"),
        (["models", "pull", "qwen3"], "There is no model called 'qwen3'"),
    ],
)
def test_bad_input_is_refused_with_what_would_be_right_and_exit_code_2(tmp_path, words, said):
    scripted(tmp_path, **AGREED)
    done = eot(tmp_path, *words, stdin="x" * 2**20)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_nul_in_a_question_is_refused_by_its_place(tmp_path):
    scripted(tmp_path, **AGREED)
    done = eot(tmp_path, "ask", "-", stdin="How\0many?")
    assert done.returncode == 2
    assert "character 3 is a NUL" in done.stderr


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # as a UTF-8 locale and the C locale have it
@pytest.mark.parametrize(
    "words", [["-"], [b"Q", "--choice", b"A=\xff", "--choice", "B=x"], [b"Q", "--run-id", b"\xff"]]
)
def test_bytes_that_are_not_text_are_refused(tmp_path, errors, words):
    scripted(tmp_path, **AGREED)
    done = subprocess.run(
        [EOT, "ask", *words],
        cwd=tmp_path,
        env=environment(tmp_path, PYTHONIOENCODING=f"utf-8:{errors}"),
        input=b"\xff\xfe?",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_council_without_agents_is_refused(tmp_path):
    (tmp_path / "eot.toml").write_text(
        '[agents.a]\nmodel = "scripted"\nscript = ["x"]\n[councils.default]\nagents = []\n'
    )
    done = eot(tmp_path, "ask", ASKED)
    assert done.returncode == 2
    assert "councils.default.agents" in done.stderr


def test_too_few_answers_end_with_exit_code_3_and_each_agents_reason(tmp_path):
    scripted(tmp_path, a=["The answer is 18."], b=["!fail"], c=["!empty"])
    done = eot(tmp_path, "ask", ASKED)
    assert done.returncode == 3
    assert "1 of 3 agents answered and 2 are needed" in done.stderr
    assert "b: a scripted failure" in done.stderr


def test_a_cap_on_money_is_refused_where_a_price_is_unknown_with_what_to_set(tmp_path):
    (tmp_path / "eot.toml").write_text('[agents.a]\nmodel = "openai/m"\nbase_url = "http://127.0.0.1:1/v1"\n')
    done = eot(tmp_path, "ask", ASKED, "--max-usd", "1")
    assert done.returncode == 2
    assert "set input_usd_per_million and output_usd_per_million of agents.a" in done.stderr


def test_a_spent_budget_ends_with_exit_code_4(tmp_path):
    scripted(tmp_path, **AGREED)
    assert eot(tmp_path, "ask", ASKED, "--max-calls", "1").returncode == 4


def test_a_budget_that_ends_the_exchange_still_gives_a_verdict(tmp_path):
    scripted(tmp_path, a=["The answer is 1."], b=["The answer is 2."], c=["The answer is 3."])
    found = json.loads(eot(tmp_path, "ask", ASKED, "--max-calls", "3", "--json").stdout)
    assert found["exchange"]["stop"]["rule"] == "budget"
    assert found["exchange"]["usage"]["calls"] == 3


@pytest.mark.parametrize("odd", ["!hang", "!flood", "!empty", "\x1b[2J\x07 nonsense \u202e"])
def test_an_agent_that_misbehaves_costs_its_own_vote_and_nothing_else(tmp_path, odd):
    scripted(tmp_path, a=["The answer is 18."], b=[odd], c=["The answer is 18."])
    with (tmp_path / "eot.toml").open("a") as file:
        file.write("quorum = 2\n")
    done = eot(tmp_path, "ask", ASKED, EOT_AGENTS__B__DEADLINE="1")
    assert done.returncode == 0, done.stderr
    assert "18" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_a_typo_in_the_settings_is_named_with_the_key_that_was_meant(tmp_path):
    (tmp_path / "eot.toml").write_text('[agents.a]\nmodle = "scripted"\n')
    done = eot(tmp_path, "config", "check")
    assert done.returncode == 2
    assert "agents.a.modle: no such key; did you mean 'model'?" in done.stderr


def test_config_check_names_every_fault_of_every_council(tmp_path):
    scripted(tmp_path, **AGREED)
    with (tmp_path / "eot.toml").open("a") as file:
        file.write('[councils.two]\nagents = ["a", "zed"]\n[councils.three]\nagents = ["a"]\ntopology = "star"\n')
    done = eot(tmp_path, "config", "check")
    assert done.returncode == 2
    assert "councils.two: There is no agent called 'zed'" in done.stderr
    assert "councils.three: There is no topology called 'star'" in done.stderr


def test_config_check_remarks_on_a_variable_that_is_no_setting(tmp_path):
    scripted(tmp_path, **AGREED)
    done = eot(tmp_path, "config", "check", EOT_COUNCLS__DEFAULT__ROUNDS="1")
    assert done.returncode == 0
    assert "EOT_COUNCLS__DEFAULT__ROUNDS is no setting" in done.stdout


def test_config_check_finds_what_no_question_has_met_yet(tmp_path):
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "dense" / "model.safetensors").touch()
    (tmp_path / "eot.toml").write_text(
        """
        [agents.typo]
        model = "local/qwen3"
        [agents.mute]
        model = "scripted"
        [agents.gone]
        model = "replay/none.jsonl"
        [agents.base]
        model = "local/gemma-3-270m"
        [councils.a]
        agents = ["typo"]
        [councils.b]
        agents = ["mute"]
        [councils.c]
        agents = ["gone"]
        [councils.d]
        agents = ["base"]
        [councils.default]
        agents = ["base"]
        [topologies.islands]
        x = []
        y = []
        [moes.ghost]
        model = "ghost"
        [moes.plain]
        model = "./dense"
        """
    )
    done = eot(tmp_path, "config", "check")
    assert done.returncode == 2
    for said in ("'qwen3'", "nothing to say", "none.jsonl", "cannot sit in a council", "'islands' falls apart"):
        assert said in done.stderr
    assert "moes.ghost: There is no model called 'ghost'" in done.stderr
    assert "moes.plain: dense is no mixture of experts" in done.stderr


def test_the_reason_why_an_agent_was_lost_is_printed(tmp_path):
    scripted(tmp_path, a=["The answer is 18."], b=["!fail"], c=["The answer is 18."])
    done = eot(tmp_path, "ask", ASKED)
    assert "lost b: a scripted failure" in done.stdout
    assert "3 calls" in done.stdout  # a call that failed was a call


def test_a_provider_cannot_write_escapes_on_the_terminal(tmp_path):
    with serving(lambda number, body: {"error": "bad \x1b]0;PWNED\x07\x1b[31mred \u202eevil"}) as server:
        (tmp_path / "eot.toml").write_text(f'[agents.a]\nmodel = "openai/m"\nbase_url = "{server.url}"\nretries = 0\n')
        done = eot(tmp_path, "ask", ASKED)
    assert done.returncode == 3
    assert "red" in done.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr)


def test_a_row_in_which_nobody_speaks_does_not_cost_the_others_their_verdicts(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"candidates": ["2", "2"]}\n{"candidates": [""]}\n{"candidates": ["3"]}\n')
    done = eot(tmp_path, "vote", "rows.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["verdict"]["answer"] for line in done.stdout.splitlines()] == ["2", None, "3"]


def test_a_missing_key_is_told_by_its_variable(tmp_path):
    (tmp_path / "eot.toml").write_text('[agents.a]\nmodel = "anthropic/claude-haiku-4-5"\n')
    done = eot(tmp_path, "ask", ASKED)
    assert done.returncode == 3
    assert "ANTHROPIC_API_KEY" in done.stderr


def test_a_table_of_ones_own_is_a_topology_like_any_other(tmp_path):
    scripted(tmp_path, a=["The answer is 1."], b=["The answer is 2."], c=["The answer is 3."])
    with (tmp_path / "eot.toml").open("a") as file:
        file.write('[topologies.chain]\na = ["b"]\nb = ["c"]\nc = []\n')
    found = json.loads(eot(tmp_path, "ask", ASKED, "--topology", "chain", "--json").stdout)
    assert found["exchange"]["hears"] == {"a": ["a", "b"], "b": ["b", "c"], "c": ["c"]}


def test_votes_on_answers_from_a_file_and_counts_what_is_right(tmp_path):
    rows = [
        {
            "question": "1+1?",
            "gold": "2",
            "candidates": [{"agent": "x", "text": "2"}, {"agent": "y", "text": "The answer is 2"}],
        },
        {"question": "2+2?", "gold": "4", "candidates": [{"agent": "x", "text": "5"}, {"agent": "y", "text": "5"}]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    done = eot(tmp_path, "vote", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert "right: 1 of 2 (50.0%)" in done.stdout
    lines = eot(tmp_path, "vote", "rows.jsonl", "--json").stdout.splitlines()
    assert [json.loads(line)["verdict"]["answer"] for line in lines] == ["2", "5"]


def test_a_wrong_row_is_refused_by_file_and_line(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1?", "candidates": ["2"]}\n{"question": "?"}\n')
    done = eot(tmp_path, "vote", "rows.jsonl")
    assert done.returncode == 2
    assert "rows.jsonl, line 2" in done.stderr


def test_a_run_that_was_killed_asks_only_for_what_it_had_not_got(tmp_path):
    """Three agents over HTTP; kill -9 while the fifth call hangs; the same run id again pays for the rest alone."""
    fates = iter([*"1234", None])  # four answers that disagree, then silence

    def answer(number, body):
        said = next(fates, number)
        return None if said is None else f"The answer is {said}."

    with serving(answer) as server:
        agents = "".join(
            f'[agents.{name}]\nmodel = "openai/m"\nbase_url = "{server.url}"\nretries = 0\n' for name in ("a", "b", "c")
        )
        (tmp_path / "eot.toml").write_text(
            agents + "[councils.default]\nagents = ['a', 'b', 'c']\nrounds = 1\nstop = []\n"
        )
        words = [str(EOT), "ask", ASKED, "--run-id", "kept", "--json"]
        first = subprocess.Popen(words, cwd=tmp_path, env=environment(tmp_path / "home"), stdout=subprocess.DEVNULL)
        assert server.hung.wait(60)
        done_before = _kept(tmp_path, 4)
        first.send_signal(signal.SIGKILL)
        first.wait()
        asked_before = len(server.bodies)
        again = eot(tmp_path, "ask", ASKED, "--run-id", "kept", "--json")
        found = json.loads(again.stdout)
    recalled = [turn["recalled"] for turns in found["exchange"]["rounds"] for turn in turns]
    assert sum(recalled) == done_before
    assert len(server.bodies) - asked_before == 6 - done_before


def _kept(folder, enough):
    """Wait until that many calls are on disk; the sixth may have been answered meanwhile."""
    for _ in range(100):
        with sqlite3.connect(folder / "home" / "calls.sqlite") as file:
            count = file.execute("select count(*) from calls").fetchone()[0]
        if count >= enough:
            time.sleep(0.2)
            return file.execute("select count(*) from calls").fetchone()[0]
        time.sleep(0.05)
    pytest.fail(f"only {count} calls were kept")
