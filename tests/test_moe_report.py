"""The report of a mixture's training, on losses that were made up."""

from api.mixture_report import ORACLE, lines, paired, written


def system(a, b):
    return {"losses": {"a": a, "b": b}, "spread": {}}


REPORT = {
    "domains": {"a": "a.txt", "b": "b.txt"},
    "systems": {
        "base": system([4.0, 3.0], [5.0]),
        "weight average": system([3.0, 3.0], [4.0]),
        "branch a": system([2.0, 2.0], [5.0]),
        "branch b": system([4.0, 4.0], [3.0]),
        "ridge gate, 2 active": system([2.5, 2.5], [3.5]),
    },
}


def test_every_system_is_a_line_with_its_difference_to_the_base():
    found = {line.system: line for line in lines(REPORT)}
    assert list(found)[-2:] == [ORACLE, "ridge gate, 2 active"]
    assert found[ORACLE].losses == {"a": 2.0, "b": 3.0}
    assert found["branch b"].to_base.mean == (0 + 1 - 2) / 3


def test_systems_are_compared_window_by_window():
    found = paired(REPORT, "ridge gate, 2 active")
    assert "ridge gate, 2 active" not in found
    assert written(found[ORACLE]) == "+0.500 [+0.500, +0.500]"
    assert written(found["base"]) == "-1.167 [-1.500, -0.500]"
