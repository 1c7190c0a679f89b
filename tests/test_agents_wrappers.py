"""Retry, deadline, budget, checks and watching: each an agent around an agent."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agents
from agents import (
    Briefed,
    Budget,
    Budgeted,
    CallRecord,
    CallStore,
    Checked,
    Deadline,
    Memo,
    Metered,
    Retry,
    ScriptedAgent,
    Watched,
)
from eot.errors import (
    AuthError,
    BudgetSpentError,
    CallError,
    DeadlineError,
    EmptyReplyError,
    OversizedReplyError,
    RateLimitedError,
    TransientError,
)
from eot.settings import BudgetSettings
from eot.types import Delta, Message, Prompt, Reply, Usage


def prompt(text="What is 2 + 2?", **fields):
    return Prompt(messages=(Message(role="user", content=text),), **fields)


def failing(*faults: Exception, then: str = "four at last") -> Callable[[Prompt], str]:
    """A line that raises each fault once, then says its text."""
    left = list(faults)

    def line(_: Prompt) -> str:
        if left:
            raise left.pop(0)
        return then

    return line


class Stumbling:
    """Says half of its text before it fails, once: what a cut connection looks like."""

    name = "stumbling"

    def __init__(self):
        self.asked = 0

    async def ask(self, prompt, hear=None):
        self.asked += 1
        if hear:
            hear(Delta(text="half "))
        if self.asked == 1:
            raise TransientError("cut off")
        if hear:
            hear(Delta(text="whole"))
        return Reply(text="half whole")


async def test_a_call_that_failed_in_passing_is_asked_again_and_every_attempt_counted():
    agent = Retry(ScriptedAgent("a", [failing(TransientError("busy"), TransientError("busy"))]), 3, first_wait=0.01)
    reply = await agent.ask(prompt())
    assert (reply.text, reply.usage.calls) == ("four at last", 3)


async def test_retries_end_and_the_last_error_goes_up():
    faults = [TransientError(str(k)) for k in range(9)]
    with pytest.raises(TransientError, match=r"^2$"):
        await Retry(ScriptedAgent("a", [failing(*faults)]), 2, first_wait=0.001).ask(prompt())


async def test_what_cannot_get_better_is_not_asked_again():
    agent = ScriptedAgent("a", [failing(AuthError("no key"))])
    with pytest.raises(AuthError):
        await Retry(agent, 5, first_wait=0.001).ask(prompt())
    assert (await agent.ask(prompt())).text == "four at last"


async def test_a_retry_after_is_waited_for():
    agent = Retry(ScriptedAgent("a", [failing(RateLimitedError("slow", retry_after=0.3))]), first_wait=0.01)
    started = time.perf_counter()
    await agent.ask(prompt())
    assert 0.3 <= time.perf_counter() - started < 1


async def test_a_retry_after_beyond_our_patience_goes_up_at_once():
    agent = Retry(ScriptedAgent("a", [failing(RateLimitedError("slow", retry_after=3600))]), longest_wait=60)
    started = time.perf_counter()
    with pytest.raises(RateLimitedError):
        await agent.ask(prompt())
    assert time.perf_counter() - started < 1


async def test_a_listener_is_told_to_forget_what_it_heard_before_a_new_attempt():
    heard: list[Delta] = []
    reply = await Retry(Stumbling(), first_wait=0.001).ask(prompt(), heard.append)
    assert heard == [Delta(text="half "), Delta(restart=True), Delta(text="half "), Delta(text="whole")]
    assert reply.text == "half whole"


async def test_nothing_is_forgotten_when_nothing_was_heard():
    heard: list[Delta] = []
    agent = ScriptedAgent("a", [failing(TransientError("busy"), then="x")])
    await Retry(agent, first_wait=0.001).ask(prompt(), heard.append)
    assert heard == [Delta(text="x")]


@given(attempt=st.integers(0, 40), first=st.floats(0.001, 10), asked=st.none() | st.floats(0, 60))
def test_a_wait_is_never_shorter_than_asked_nor_longer_than_promised(attempt, first, asked):
    fault = TransientError("x") if asked is None else RateLimitedError("x", asked)
    wait = Retry(ScriptedAgent("a", ["x"]), first_wait=first)._wait(attempt, fault)
    assert (asked or 0) <= wait <= (asked or 0) + min(60, first * 2**attempt)


async def test_a_deadline_ends_a_call_that_hangs():
    started = time.perf_counter()
    with pytest.raises(DeadlineError, match=r"^a did not answer within 0\.1 s$"):
        await Deadline(ScriptedAgent("a", ["!hang"]), 0.1).ask(prompt())
    assert time.perf_counter() - started < 1


async def test_a_deadline_covers_all_attempts_and_the_waits_between_them():
    faults = [RateLimitedError("slow", 0.2) for _ in range(9)]
    with pytest.raises(DeadlineError):
        await Deadline(Retry(ScriptedAgent("a", [failing(*faults)]), 9), 0.3).ask(prompt())


async def test_a_timeout_inside_the_agent_is_not_taken_for_the_deadline():
    agent = ScriptedAgent("a", [failing(TimeoutError("its own"), TimeoutError("its own"))])
    with pytest.raises(TimeoutError, match="its own"):
        await Deadline(agent, 5).ask(prompt())
    with pytest.raises(TimeoutError, match="its own"):
        await Budgeted(agent, Budget(BudgetSettings(seconds=5))).ask(prompt())


@pytest.mark.parametrize("text", ["!empty", " \n\t ", "\u200b\u2060", "\x1b\x07"])
async def test_a_reply_of_nothing_is_refused(text):
    with pytest.raises(EmptyReplyError, match="a answered nothing"):
        await Checked(ScriptedAgent("a", [text])).ask(prompt())


@pytest.mark.parametrize("listens", [True, False])
async def test_an_endless_reply_is_cut_off(listens):
    heard: list[Delta] = []
    with pytest.raises(OversizedReplyError, match="more than 400,000 characters"):
        await Checked(ScriptedAgent("a", ["!flood"])).ask(prompt(), heard.append if listens else None)
    assert sum(len(delta.text) for delta in heard) <= 400_000


async def test_what_is_handed_on_can_be_printed_and_kept_and_is_what_was_heard():
    heard: list[Delta] = []
    said = "fo\x1b[31mur\r\n \ud800is \u202eright\x00"
    reply = await Checked(ScriptedAgent("a", [said])).ask(prompt(), heard.append)
    assert reply.text == "fo[31mur\n is right" == "".join(delta.text for delta in heard)
    assert Reply.model_validate_json(reply.model_dump_json()) == reply


async def test_every_attempt_leaves_one_record_however_it_ended():
    records: list[CallRecord] = []
    faults = [RateLimitedError("slow"), AuthError("no")]
    agent = Watched(Checked(ScriptedAgent("a", [failing(*faults, then="a b"), "!empty", "!hang"])), records.append, "m")
    heard: list[Delta] = []
    for k in (0, 0, 0, 1):
        with contextlib.suppress(CallError):
            await agent.ask(prompt(round=k), heard.append)
    with pytest.raises(DeadlineError):
        await Deadline(agent, 0.05).ask(prompt(round=2))
    assert [record.outcome for record in records] == ["rate limit", "key refused", "ok", "empty", "cancelled"]
    good, cut = records[2], records[4]
    assert good.usage.output_tokens == 2
    assert 0 <= good.first_token_seconds <= good.seconds
    assert (good.agent, good.model, good.round) == ("a", "m", 0)
    assert cut.first_token_seconds is None
    assert cut.seconds >= 0.05
    assert "".join(delta.text for delta in heard) == "a b"


def budgeted(caps, agents=1, script=("one two",), delay=0.0):
    budget = Budget(BudgetSettings(**caps))
    return budget, [Budgeted(ScriptedAgent(f"a{k}", script, delay), budget) for k in range(agents)]


async def test_agents_asked_in_parallel_do_not_pass_the_cap_on_calls():
    budget, agents = budgeted({"calls": 3}, agents=8, delay=0.02)
    results = await asyncio.gather(*(agent.ask(prompt()) for agent in agents), return_exceptions=True)
    assert sum(isinstance(result, Reply) for result in results) == 3 == budget.spent.calls
    assert all(isinstance(result, Reply | BudgetSpentError) for result in results)
    assert budget.exhausted() == "3 calls"


async def test_no_call_begins_once_the_tokens_are_spent():
    budget, [agent] = budgeted({"tokens": 13})
    for _ in range(2):
        await agent.ask(prompt())  # 5 words asked, 2 said
    with pytest.raises(BudgetSpentError, match="a0 was not asked: the run's cap of 13 tokens is reached"):
        await agent.ask(prompt())
    assert (budget.spent.tokens, budget.spent.calls) == (14, 2)


class Paid:
    """Each call costs the same, or nobody knows how much."""

    name = "paid"

    def __init__(self, usd):
        self.usd = usd

    async def ask(self, prompt, hear=None):
        return Reply(text="x", usage=Usage(calls=1, cost_usd=self.usd))


async def test_no_call_begins_once_the_money_is_spent():
    agent = Budgeted(Paid(0.4), Budget(BudgetSettings(usd=1)))
    for _ in range(3):
        await agent.ask(prompt())
    with pytest.raises(BudgetSpentError, match="1 US dollars"):
        await agent.ask(prompt())


async def test_a_call_whose_price_turns_out_unknown_ends_a_budget_of_money():
    agent = Budgeted(Paid(None), Budget(BudgetSettings(usd=1)))
    await agent.ask(prompt())
    with pytest.raises(BudgetSpentError, match="a call of unknown price was made"):
        await agent.ask(prompt())


async def test_the_runs_seconds_end_a_call_under_way_and_let_no_other_begin():
    budget, [agent] = budgeted({"seconds": 0.1}, script=("!hang",))
    with pytest.raises(BudgetSpentError, match=r"a0 was cut off: the run's 0\.1 seconds are over"):
        await agent.ask(prompt())
    with pytest.raises(BudgetSpentError, match=r"the run's cap of 0\.1 seconds is reached"):
        await agent.ask(prompt())
    assert budget.spent.calls == 1


async def test_a_failed_or_cancelled_call_counts_and_its_reservation_does_not_stay():
    budget, [agent] = budgeted({"calls": 3}, script=("!fail", "!hang"))
    with pytest.raises(TransientError):
        await agent.ask(prompt())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(agent.ask(prompt(round=1)), 0.02)
    assert (budget.spent.calls, budget.exhausted()) == (2, "")


def turn(agent, budget, retries=3, deadline=5.0):
    """One agent's turn as a run composes it, without the memo."""
    return Budgeted(Deadline(Retry(Metered(agent, budget), retries, first_wait=0.001), deadline), budget)


async def test_attempts_count_one_by_one_so_that_retries_do_not_pass_the_cap_on_calls():
    budget, asked = Budget(BudgetSettings(calls=2)), []

    def line(prompt):
        asked.append(prompt)
        raise TransientError("busy")

    with pytest.raises(BudgetSpentError, match="a was not asked again: the run's cap of 2 calls is reached") as caught:
        await turn(ScriptedAgent("a", [line]), budget).ask(prompt())
    assert (len(asked), budget.spent.calls, caught.value.calls, budget.exhausted()) == (2, 2, 2, "2 calls")


async def test_agents_that_all_fail_in_parallel_make_no_more_calls_than_the_cap():
    budget, asked = Budget(BudgetSettings(calls=5)), []

    def line(prompt):
        asked.append(prompt)
        raise TransientError("busy")

    crowd = [turn(ScriptedAgent(f"a{k}", [line], delay=0.005), budget) for k in range(3)]
    faults = await asyncio.gather(*(agent.ask(prompt()) for agent in crowd), return_exceptions=True)
    assert len(asked) == budget.spent.calls == sum(fault.calls for fault in faults) == 5


async def test_an_error_tells_how_many_calls_its_turn_made():
    budget = Budget(BudgetSettings())
    for line, error, calls in [
        (failing(*[TransientError("busy")] * 9), TransientError, 4),
        (failing(AuthError("no")), AuthError, 1),
        (failing(*[RateLimitedError("slow", 0.02)] * 2, then="!hang"), DeadlineError, 3),
    ]:
        with pytest.raises(error) as caught:
            await turn(ScriptedAgent("a", [line]), budget, deadline=0.3).ask(prompt())
        assert caught.value.calls == calls
    assert budget.spent.calls == 8


async def test_an_agent_that_was_not_asked_made_no_call():
    budget = Budget(BudgetSettings(calls=1))
    agent = turn(ScriptedAgent("a", ["x"]), budget)
    await agent.ask(prompt())
    with pytest.raises(BudgetSpentError, match="a was not asked: ") as caught:
        await agent.ask(prompt())
    assert (caught.value.calls, budget.spent.calls) == (0, 1)


async def test_the_runs_seconds_end_the_wait_before_the_next_attempt_too():
    budget = Budget(BudgetSettings(seconds=0.1))
    patient = Metered(ScriptedAgent("a", [failing(RateLimitedError("slow", 30))]), budget)
    started = time.perf_counter()
    with pytest.raises(BudgetSpentError, match="cut off") as caught:
        await Budgeted(Retry(patient), budget).ask(prompt())
    assert time.perf_counter() - started < 1
    assert (caught.value.calls, budget.spent.calls) == (1, 1)


async def test_turns_of_one_agent_at_once_do_not_take_each_others_place():
    budget = Budget(BudgetSettings(calls=10))
    agent = turn(ScriptedAgent("a", [failing(TransientError("busy"), then="x")], delay=0.005), budget)
    await asyncio.gather(*(agent.ask(prompt()) for _ in range(4)))
    assert (budget.spent.calls, budget.exhausted()) == (5, "")


async def test_without_caps_nothing_is_refused():
    budget, [agent] = budgeted({})
    for _ in range(20):
        await agent.ask(prompt())
    assert (budget.exhausted(), budget.spent.calls) == ("", 20)


def test_the_front_door_names_all_that_a_user_may_touch():
    named = {name: getattr(agents, name) for name in agents.__all__}
    public = {name for name, thing in vars(agents).items() if name[0].isupper() and thing in named.values()}
    imported = {
        name for name in vars(agents) if not name.startswith("_") and not inspect.ismodule(getattr(agents, name))
    }
    assert set(agents.__all__) == public == imported


async def test_all_wrappers_together_in_their_order_keep_a_run_alive(tmp_path):
    store, records = CallStore(tmp_path / "calls.sqlite"), []
    line = failing(RateLimitedError("slow", 0.01), TransientError("cut"), then="The answer is 4.")
    budget = Budget(BudgetSettings(calls=6))
    attempted = Metered(Watched(Checked(ScriptedAgent("a", [line])), records.append), budget)
    kept = Memo(Deadline(Retry(attempted, first_wait=0.001), 5), store, "scripted")
    agent = Briefed(Budgeted(kept, budget), "Be brief.", seed=1)
    first = await agent.ask(prompt(run_id="r", seed=1))
    again = await agent.ask(prompt(run_id="r", seed=1))
    store.close()
    assert (first.text, first.usage.calls, again.recalled) == ("The answer is 4.", 3, True)
    assert [record.outcome for record in records] == ["rate limit", "unavailable", "ok"]
    # the recalled turn counts with the three calls that it once took
    assert (budget.spent.calls, budget.exhausted(), agent.name) == (6, "6 calls", "a")
