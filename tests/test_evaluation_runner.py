"""An evaluation is resumed, capped, and survives whatever dies under it; nothing that was paid for is paid twice."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trials import House, questions, says

from eot.errors import AnswersError, CallError, EotError, InputError
from evaluation import Outcome, Results, Row, System, Trial, evaluate, run_systems, systems_of
from evaluation.runner import fingerprint

LINES = {"a": [says(1)], "b": [says(2)], "c": [says(3)]}


async def play(house, folder, asked, *baselines, **rules):
    return await evaluate(asked, [house.entrant(**rules)], folder / "out", baselines, budget=house.budget)


async def test_a_second_run_asks_nobody_and_says_the_same(tmp_path):
    house = House(tmp_path, LINES)
    first = await play(house, tmp_path, questions("1", "2"), "cot", "sc")
    before = dict(house.calls)
    assert await play(house, tmp_path, questions("1", "2"), "cot", "sc") == first
    assert house.calls == before
    assert sum(before.values()) == house.budget.spent.calls


async def test_one_more_baseline_pays_only_for_itself(tmp_path):
    house = House(tmp_path, LINES)
    await play(house, tmp_path, questions("1", "2"), "cot", rounds=0)
    assert house.calls == {"a": 2, "b": 2, "c": 2}
    report = await play(house, tmp_path, questions("1", "2"), "cot", "sc", rounds=0)
    assert house.calls == {"a": 2 + 2 * 2, "b": 2, "c": 2}
    assert [score.system for score in report.scores] == ["council:default", "round0:default", "cot:a", "sc:default"]


async def test_another_seed_council_question_or_gold_is_another_result(tmp_path):
    house = House(tmp_path, LINES)
    system = systems_of([house.entrant()], ["cot"], Trial())[-1]
    other = systems_of([house.entrant("default", "ba")], ["cot"], Trial())[-1]
    (asked,), (regraded,), (reworded,) = questions("1"), questions("2"), questions("1", text="How few?")
    prints = [
        fingerprint(system, asked, Trial()),
        fingerprint(system, asked, Trial(seed=1)),
        fingerprint(other, asked, Trial()),
        fingerprint(system, regraded, Trial()),
        fingerprint(system, reworded, Trial()),
    ]
    assert len(set(prints)) == len(prints)


async def test_councils_are_asked_at_once_and_then_all_that_is_fitted_to_them(tmp_path):
    together, begun = asyncio.Barrier(2), []

    def system(name, leads):
        async def solve(question, done):
            begun.append((name, sorted(done)))
            async with asyncio.timeout(10):
                await together.wait()
            return Outcome(answer="1", text=says(1))

        return System(name, solve, leads=leads)

    systems = [system("b", False), system("one", True), system("a", False), system("two", True)]
    with Results(tmp_path / "results.jsonl") as results:
        assert await run_systems(questions("1"), systems, results, Trial()) == ""
        (asked,) = questions("1")
        rows = [results.find(one.name, asked.question.id, fingerprint(one, asked, Trial())) for one in systems]
    assert all(row.correct for row in rows)
    assert sorted(begun) == [("a", ["one", "two"]), ("b", ["one", "two"]), ("one", []), ("two", [])]


async def test_the_cap_on_new_calls_ends_it_and_what_there_is_is_reported(tmp_path):
    house = House(tmp_path, LINES, calls=7)
    trial = Trial(at_once=1)
    asked = questions("1", "1", "1", "1")
    report = await evaluate(
        asked, [house.entrant(rounds=0)], tmp_path / "out", ["cot"], trial=trial, budget=house.budget
    )
    assert report.ended == "7 calls"
    assert sum(house.calls.values()) == 7
    assert [score.answered for score in report.scores] == [2, 2, 2]
    assert [score.failed for score in report.scores] == [0, 0, 0]
    richer = House(tmp_path, LINES)
    report = await evaluate(asked, [richer.entrant(rounds=0)], tmp_path / "out", ["cot"], trial=trial)
    assert report.ended == ""
    assert sum(richer.calls.values()) == 12 - 7


async def test_a_council_that_lost_members_to_the_cap_is_no_result(tmp_path):
    house = House(tmp_path, LINES, calls=2)
    report = await evaluate(questions("1"), [house.entrant(rounds=0)], tmp_path / "out", [], budget=house.budget)
    assert report.ended == "2 calls"
    assert report.scores == ()


@pytest.mark.parametrize(("caps", "said"), [({"tokens": 30}, "30 tokens"), ({"calls": 1}, "1 calls")])
async def test_every_cap_names_itself(tmp_path, caps, said):
    house = House(tmp_path, LINES, **caps)
    assert (await play(house, tmp_path, questions("1", "2", "3", "4"), "cot")).ended == said


async def test_recalled_answers_are_free_under_a_cap(tmp_path):
    await play(House(tmp_path, LINES), tmp_path, questions("1", "2"), rounds=0)
    house = House(tmp_path, LINES, calls=1)
    report = await evaluate(
        questions("1", "2"), [house.entrant(rounds=0)], tmp_path / "elsewhere", ["cot"], budget=house.budget
    )
    assert report.ended == ""
    assert house.budget.spent.calls == 0
    assert report.score("council:default").calls == 3


async def test_a_model_that_dies_half_way_costs_its_questions_and_no_others(tmp_path):
    alive = [True]

    def dying(prompt):
        if not alive[0] and "(2)" in prompt.question:
            raise CallError("the model is gone")
        return says(1)

    alive[0] = False
    house = House(tmp_path, {"a": [dying], "b": [says(1)], "c": [says(1)]})
    report = await play(house, tmp_path, questions("1", "1", "1", "1"), "cot")
    assert (report.score("cot:a").answered, report.score("cot:a").failed) == (3, 1)
    assert report.score("council:default").answered == 4
    assert "cot:a: 1 failed: the model is gone" in report.notes
    alive[0] = True
    paid = house.calls["a"]
    mended = await play(house, tmp_path, questions("1", "1", "1", "1"), "cot")
    assert (mended.score("cot:a").answered, mended.score("cot:a").failed) == (4, 0)
    assert house.calls["a"] == paid + 1


async def test_whatever_a_system_raises_is_a_failure_of_one_question(tmp_path):
    def broken(prompt):
        raise ZeroDivisionError("oh")

    house = House(tmp_path, {"a": [broken], "b": [says(1)], "c": [says(1)]})
    report = await play(house, tmp_path, questions("1"), "cot")
    assert "cot:a: 1 failed: ZeroDivisionError: oh" in report.notes


async def test_questions_are_in_work_at_once_up_to_the_bound(tmp_path):
    now, most = [0], [0]
    house = House(tmp_path, {"a": [says(1)]})
    ask = house.bare["a"].ask

    async def slow(prompt, hear=None):
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.02)
        now[0] -= 1
        return await ask(prompt, hear)

    house.bare["a"].ask = slow
    trial = Trial(at_once=3)
    await evaluate(questions(*"1" * 12), [house.entrant()], tmp_path / "out", [], trial=trial)
    assert most[0] == 3


async def test_progress_counts_what_was_there_and_ends_with_nothing_left(tmp_path):
    house = House(tmp_path, LINES)
    await play(house, tmp_path, questions("1", "2"), rounds=0)
    steps = []
    systems = systems_of([house.entrant(rounds=0)], ["cot", "sc"], Trial())
    with Results(tmp_path / "out" / "results.jsonl") as results:
        await run_systems(questions("1", "2", "3"), systems, results, Trial(), budget=house.budget, watch=steps.append)
    assert (steps[0].done, steps[0].total, steps[0].eta) == (4, 12, None)
    assert [step.done for step in steps] == list(range(4, 13))
    assert steps[-1].eta == 0
    assert all(step.eta > 0 for step in steps[1:-1])
    assert steps[-1].spent.calls == sum(house.calls.values())


def test_a_line_cut_short_by_death_is_dropped_and_written_over(tmp_path):
    path = tmp_path / "results.jsonl"
    whole = Row(system="cot:a", question="q0", fingerprint="f", outcome=Outcome(answer="1", text="1"))
    path.write_text(whole.model_dump_json() + '\n{"system": "cot:a", "question": "q1", "outc', encoding="utf-8")
    with Results(path) as results:
        assert results.find("cot:a", "q0", "f") == whole
        assert results.find("cot:a", "q1", "f") is None
        results.append(whole.model_copy(update={"question": "q1"}))
    with Results(path) as results:
        assert results.succeeded("cot:a", "q1", "f")
    assert path.read_text(encoding="utf-8").count("\n") == 2


def test_of_two_rows_the_later_counts(tmp_path):
    failed = Row(system="s", question="q", fingerprint="f", failure="gone")
    with Results(tmp_path / "r.jsonl") as results:
        results.append(failed)
        assert not results.succeeded("s", "q", "f")
        results.append(Row(system="s", question="q", fingerprint="f", outcome=Outcome(answer="1", text="x")))
        assert results.succeeded("s", "q", "f")
        assert results.find("s", "q", "other") is None


def test_a_foreign_line_is_refused_with_file_and_line(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(Row(system="s", question="q").model_dump_json() + '\n{"id": 1}\n', encoding="utf-8")
    with pytest.raises(AnswersError, match=r"results.jsonl, line 2: not a result"):
        Results(path)
    path.write_text("", encoding="utf-8")
    Results(path).__exit__(None, None, None)


def test_two_runs_cannot_write_one_folder_at_once(tmp_path):
    with Results(tmp_path / "r.jsonl"), pytest.raises(InputError, match="another run"):
        Results(tmp_path / "r.jsonl")
    with Results(tmp_path / "r.jsonl"):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name another folder"):
        Results(tmp_path / "file" / "r.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
async def test_a_full_disk_ends_it_with_a_sentence_and_loses_no_paid_answer(tmp_path):
    house = House(tmp_path, LINES)
    systems = systems_of([house.entrant(rounds=0)], [], Trial())
    with Results(tmp_path / "r.jsonl") as results:
        results._file.close()
        results._file = open("/dev/full", "r+b", buffering=0)  # noqa: ASYNC230, PTH123, SIM115 - the context closes it
        with pytest.raises(EotError, match=r"No space left.*kept"):
            await run_systems(questions("1", "2"), systems, results, Trial(), budget=house.budget)
    paid = dict(house.calls)
    await play(house, tmp_path, questions("1", "2"), rounds=0)
    assert house.calls == paid


SCRIPT = """
import asyncio, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from trials import House, questions, says
from evaluation import Trial, evaluate

def slowly(prompt):
    time.sleep(0.02)
    with open("asked.txt", "a") as file:
        file.write(f"{prompt.question} {prompt.round} {prompt.seed}\\n")
    return says(1)

here = Path(".")
house = House(here, {"a": [slowly], "b": [says(2)], "c": [says(3)]})
asyncio.run(evaluate(questions(*"1" * 20), [house.entrant()], here / "out", ["cot", "sc"], trial=Trial(at_once=2)))
"""


def test_after_kill_9_it_asks_only_for_what_it_had_not_got(tmp_path):
    words = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    asked = tmp_path / "asked.txt"
    with subprocess.Popen(words, cwd=tmp_path) as process:
        until = time.monotonic() + 60
        while not (asked.exists() and len(asked.read_text().splitlines()) > 40):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < until, "it never began"
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    before = asked.read_text().splitlines()
    subprocess.run(words, cwd=tmp_path, check=True, timeout=120)
    lines = asked.read_text().splitlines()
    # A council plays 3 rounds, self-consistency has 8 samples more: 11 calls of `a` a question, each asked once. What
    # was under way when it died was not paid for in full, and is asked again: two questions with up to 9 calls each.
    assert 40 < len(before) < 220
    assert len(set(lines)) == 220
    assert 220 <= len(lines) <= 220 + 2 * 9
