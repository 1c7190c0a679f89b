"""What a run costs beside its models: CPU for each exchange, exchanges a second, wall time over the critical path.

Three scripted agents, two exchange rounds, no latency: the whole loop beside the same nine calls in bare asyncio, in
turns, in one process. Then 64 runs at once (and 4) with 200 ms a call, against the critical path of three calls one
after the other; and 64 in bare asyncio.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from report import arguments, report

from agents import ScriptedAgent
from eot.types import Message, Prompt, Question
from topologies import Council, run, table

ROUNDS, SEATS, AT_ONCE, LATENCY = 2, 3, 64, 0.2
TURNS, RUNS_A_TURN = 7, 40
TEXT = "First I count the eggs, then I take away those that were eaten, then I multiply. The answer is {}."


def sitting(latency: float = 0.0) -> Council:
    """Three agents that never agree, so that every round is played."""
    names = [f"agent{seat}" for seat in range(SEATS)]
    agents = {name: ScriptedAgent(name, [TEXT.format(seat)], latency) for seat, name in enumerate(names)}
    return Council(agents=agents, topology="memory", hears=table("memory", names), rounds=ROUNDS)


async def exchange(council: Council, number: int) -> None:
    await run(council, Question(text="How many eggs?", kind="number"), run_id=f"run{number}", watch=lambda _: None)


async def bare(council: Council, number: int) -> None:
    prompt = Prompt(messages=(Message(role="user", content="How many eggs?"),), run_id=f"run{number}")
    for _ in range(ROUNDS + 1):
        await asyncio.gather(*(agent.ask(prompt, lambda _: None) for agent in council.agents.values()))


async def cpu_ms(once: Callable[[Council, int], Awaitable[None]]) -> float:
    """CPU milliseconds for each of `RUNS_A_TURN` runs, one after the other."""
    council = sitting()
    start = time.process_time()
    for number in range(RUNS_A_TURN):
        await once(council, number)
    return 1000 * (time.process_time() - start) / RUNS_A_TURN


async def measure() -> dict[str, float]:
    await cpu_ms(exchange)  # the first run builds the graph and imports what it needs
    ours, theirs, walls = [], [], []
    for _ in range(TURNS):
        start = time.perf_counter()
        ours.append(await cpu_ms(exchange))
        walls.append(RUNS_A_TURN / (time.perf_counter() - start))
        theirs.append(await cpu_ms(bare))
    return {
        "cpu_ms_per_exchange": statistics.median(ours),
        "cpu_ms_bare_asyncio": statistics.median(theirs),
        "exchanges_per_s": statistics.median(walls),
        "wall_over_critical_path": await over_critical_path(exchange, AT_ONCE),
        "bare_wall_over_critical_path": await over_critical_path(bare, AT_ONCE),
        "wall_over_critical_path_4": await over_critical_path(exchange, 4),
    }


async def over_critical_path(once: Callable[[Council, int], Awaitable[None]], at_once: int) -> float:
    """Wall seconds of that many runs started together, over the seconds that one run waits for its agents."""
    start = time.perf_counter()
    await asyncio.gather(*(once(sitting(LATENCY), number) for number in range(at_once)))
    return (time.perf_counter() - start) / (LATENCY * (ROUNDS + 1))


if __name__ == "__main__":
    options = arguments(__doc__ or "").parse_args()
    report("The loop beside bare asyncio", asyncio.run(measure()), as_json=options.json)
