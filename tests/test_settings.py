"""eot.toml and the environment: what is read, what is refused and how it is said."""

from pathlib import Path

import pytest

from api.defaults import LOCAL, with_defaults
from api.http.run_types import InlineCouncil
from eot.errors import SettingsError
from eot.settings import Settings, load


def written(folder, text):
    path = folder / "eot.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load().agents == {}


def test_a_file_that_was_named_must_be_there(tmp_path):
    with pytest.raises(SettingsError, match="there is no file"):
        load(tmp_path / "eot.toml")


def test_the_environment_wins_over_the_file_key_by_key(tmp_path, monkeypatch):
    path = written(
        tmp_path, '[agents.a]\nmodel = "x/y"\n[councils.default]\nagents = ["a"]\nrounds = 3\nvote = "sum"\n'
    )
    monkeypatch.setenv("EOT_COUNCILS__DEFAULT__ROUNDS", "1")
    council = load(path).councils["default"]
    assert (council.rounds, council.vote) == (1, "sum")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agents.a]\nmodle = 'x'", "agents.a.modle: no such key; did you mean 'model'?"),
        ("[agents.a]", "agents.a.model: this key is required"),
        (
            "[agents.a]\nmodel = 'x'\ntemperature = 9",
            "agents.a.temperature: read 9; input should be less than or equal to 2",
        ),
        ("[councils.d]\nagents = []", "councils.d.agents"),
        ("[councils.d]\nagents = ['a']\nstop = ['soon']", "councils.d.stop.0: read 'soon'"),
        ("[councils.d]\nagents = ['a']\n[councils.d.budget]\nmoney = 1", "councils.d.budget.money: no such key"),
        ("[agent.a]\nmodel = 'x'", "agent: no such key; did you mean 'agents'?"),
        ("agents = [", "is not valid TOML"),
        ("[agents.a]\nmodel = 'x'\nweight = inf", "agents.a.weight"),
        ("[agents.'b c']\nmodel = 'x'", "write 1 to 64 letters"),
        (
            "[councils.d]\nagents = ['a']\npick = 3\ncapacity = 2",
            'councils.d: read a table; value error, capacity, pick: only a gate reads that; write agents = "gate:NAME"',
        ),
        ("[councils.d]\nagents = 'a'", 'write a list, such as ["a", "b"]'),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(tmp_path, text, said):
    with pytest.raises(SettingsError) as raised:
        load(written(tmp_path, text))
    assert said in str(raised.value)


def test_what_a_gate_reads_goes_with_a_gate_and_is_no_fault_of_a_run_that_names_its_agents(tmp_path):
    gated = "[councils.default]\nagents = 'gate:g'\npick = 2\nwanted = 0.9\nshares = {a = 1}\ncapacity = 2\n"
    settings = load(written(tmp_path, gated))
    assert settings.councils["default"].gate_name == "g"
    named = InlineCouncil(agents=["a"]).over(settings.councils["default"])
    assert (named.agents, named.gate_name) == (("a",), "")


def test_every_fault_is_named_at_once(tmp_path):
    with pytest.raises(SettingsError) as raised:
        load(written(tmp_path, "[agents.a]\nmodle = 'x'\ntop_p = 7\n[councils.d]\nagents = []"))
    assert str(raised.value).count("\n") == 4


def test_a_key_is_never_shown(tmp_path):
    with pytest.raises(SettingsError) as raised:
        load(written(tmp_path, "[agents.a]\nmodel = 'x'\napi_key = ['sk-canary-123']"))
    assert "canary" not in str(raised.value)
    settings = load(written(tmp_path, "[agents.a]\nmodel = 'x'\napi_key = 'sk-canary-123'"))
    assert "canary" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize("text", ["[[agents]]\nmodel = 'x'\napi_key = 'sk-canary'", "[agents]\na = 'sk-canary'"])
def test_a_key_in_a_table_of_the_wrong_shape_is_not_shown_either(tmp_path, text):
    with pytest.raises(SettingsError) as raised:
        load(written(tmp_path, text))
    assert "canary" not in str(raised.value)


def test_lists_tables_and_names_of_any_case_can_come_from_the_environment(tmp_path, monkeypatch):
    path = written(tmp_path, "[agents.Alpha]\nmodel = 'x'\n[councils.default]\nagents = ['Alpha']")
    for variable, value in {
        "COUNCILS__DEFAULT__STOP": '["unanimous"]',
        "COUNCILS__DEFAULT__BUDGET": '{"calls": 3}',
        "AGENTS__ALPHA__DEADLINE": "1",
        "AGENTS__ALPHA__STOP": '["###"]',
        "TOPOLOGIES__CHAIN": '{"a": ["b"], "b": []}',
        "HOME": "~/somewhere",
    }.items():
        monkeypatch.setenv(f"EOT_{variable}", value)
    found = load(path)
    council, agent = found.councils["default"], found.agents["Alpha"]
    assert (council.stop, council.budget.calls, agent.deadline, agent.stop) == (("unanimous",), 3, 1, ("###",))
    assert found.topologies["chain"]["a"] == ("b",)
    assert found.home == Path.home() / "somewhere"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EOT_AGENTS", "abc", "EOT_AGENTS holds a table, so its value must be JSON"),
        ("EOT_COUNCILS__D__AGENTS", "[a, b]", "EOT_COUNCILS__D__AGENTS is not JSON"),
    ],
)
def test_a_variable_that_is_not_json_is_refused_by_its_name(monkeypatch, tmp_path, variable, value, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=said):
        load()


def test_without_agents_the_keys_of_the_environment_give_hosted_ones():
    found = with_defaults(Settings(), {"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "y"})
    assert [agent.model.partition("/")[0] for agent in found.agents.values()] == ["anthropic", "openai", "anthropic"]
    assert found.councils["default"].agents == tuple(found.agents)


def test_without_keys_either_the_council_is_local():
    found = with_defaults(Settings(), {})
    assert found.agents == LOCAL
    assert len({agent.model for agent in found.agents.values()}) >= 2


def test_agents_of_ones_own_sit_in_the_default_council_unless_it_is_named(tmp_path):
    found = with_defaults(
        load(written(tmp_path, "[agents.a]\nmodel='x/y'\n[agents.b]\nmodel='x/z'")), {"OPENAI_API_KEY": "x"}
    )
    assert found.councils["default"].agents == ("a", "b")
