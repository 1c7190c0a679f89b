"""Who hears whom: the four networks for every size, and tables of one's own."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eot.errors import TopologyError, UnknownNameError
from topologies import FEWEST_SEATS, TOPOLOGIES, messages_a_round, rounds_to_reach, table

SIZES = st.integers(min_value=2, max_value=15)


def seats(n):
    return [f"agent{i}" for i in range(n)]


def test_three_seats_hear_each_other_as_the_paper_draws_it():
    names = ["A", "B", "C"]
    drawn = {
        "memory": {"A": "ABC", "B": "ABC", "C": "ABC"},
        "report": {"A": "ABC", "B": "AB", "C": "AC"},
        "relay": {"A": "AB", "B": "BC", "C": "AC"},  # C hears the next one, A
        "debate": {"A": "ABC", "B": "BC", "C": "BC"},
    }
    for topology, rows in drawn.items():
        assert {seat: "".join(heard) for seat, heard in table(topology, names).items()} == rows, topology


@given(SIZES)
def test_memory_costs_n_squared_messages_a_round(n):
    assert messages_a_round(table("memory", seats(n))) == n * n


@given(SIZES)
def test_report_costs_3n_minus_2_messages_a_round(n):
    assert messages_a_round(table("report", seats(n))) == 3 * n - 2


@given(SIZES)
def test_relay_costs_2n_messages_a_round(n):
    assert messages_a_round(table("relay", seats(n))) == 2 * n


@given(st.integers(min_value=3, max_value=15))
def test_debate_costs_3n_minus_2_less_the_sibling_that_an_only_child_lacks(n):
    only_child = n % 2 == 0
    assert messages_a_round(table("debate", seats(n))) == 3 * n - 2 - only_child


@given(SIZES, st.sampled_from(list(TOPOLOGIES)))
def test_every_seat_hears_itself_and_nobody_unknown(n, topology):
    if n < FEWEST_SEATS[topology]:
        return
    names = seats(n)
    for seat, heard in table(topology, names).items():
        assert seat in heard
        assert set(heard) <= set(names)
        assert list(heard) == sorted(heard, key=names.index)


@given(st.integers(min_value=3, max_value=15))
def test_nothing_flows_down_a_debate(n):
    hears = table("debate", seats(n))
    for child in range(1, n):
        assert f"agent{(child - 1) // 2}" not in hears[f"agent{child}"]


@given(SIZES)
def test_a_message_reaches_everyone_after_as_many_rounds_as_the_network_is_wide(n):
    names = seats(n)
    assert rounds_to_reach(table("memory", names)) == 1
    assert rounds_to_reach(table("report", names)) == min(2, n - 1)
    assert rounds_to_reach(table("relay", names)) == n - 1
    if n >= 3:
        assert rounds_to_reach(table("debate", names)) == math.floor(math.log2(n))  # the depth of a heap of n


def test_a_debate_of_seven_reaches_its_root_in_two_rounds():
    assert rounds_to_reach(table("debate", seats(7))) == math.log2(7 + 1) - 1


def test_one_agent_alone_is_allowed_in_every_topology():
    for topology in TOPOLOGIES:
        assert table(topology, ["only"]) == {"only": ("only",)}


def test_a_debate_of_two_is_refused():
    with pytest.raises(TopologyError, match="at least 3 agents; this council has 2"):
        table("debate", ["a", "b"])


def test_two_agents_of_one_name_are_refused_by_name():
    with pytest.raises(TopologyError, match="two agents are called 'b'"):
        table("memory", ["a", "b", "b"])


def test_a_council_without_agents_is_refused():
    with pytest.raises(TopologyError, match="at least one agent"):
        table("memory", [])


def test_an_unknown_topology_names_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"'repotr'\. Did you mean 'report'\?"):
        table("repotr", ["a", "b"])


def test_a_table_of_ones_own_may_use_labels_for_seats():
    own = {"chain": {"first": ["second"], "second": ["third"], "third": []}}
    assert table("chain", ["x", "y", "z"], own) == {"x": ("x", "y"), "y": ("y", "z"), "z": ("z",)}


def test_a_table_of_ones_own_may_name_the_agents_in_any_order():
    own = {"pair": {"y": ["x"], "x": []}}
    assert table("pair", ["x", "y"], own) == {"x": ("x",), "y": ("x", "y")}


def test_a_table_with_an_unknown_seat_is_refused():
    with pytest.raises(TopologyError, match="'a' hears 'c', which is no seat of a, b"):
        table("mine", ["a", "b"], {"mine": {"a": ["c"], "b": ["a"]}})


def test_a_row_that_is_no_agent_is_refused_where_the_others_are():
    with pytest.raises(TopologyError, match="has a row for 'bb', which is no agent of this council: a, b, c"):
        table("t", ["a", "b", "c"], {"t": {"c": ["a"], "a": ["c"], "bb": ["a", "c"]}})


def test_a_table_of_another_size_is_refused_with_both_numbers():
    with pytest.raises(TopologyError, match="has 2 seats, the council 3 agents"):
        table("mine", ["a", "b", "c"], {"mine": {"a": ["b"], "b": ["a"]}})


def test_a_table_that_falls_apart_is_refused():
    islands = {"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}
    with pytest.raises(TopologyError, match="falls apart"):
        table("islands", ["a", "b", "c", "d"], {"islands": islands})
