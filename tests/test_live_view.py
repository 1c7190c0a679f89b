"""The live view, fed with a real run's events."""

import io

import pytest
from rich.console import Console

from agents import ScriptedAgent
from api.live import LiveView
from eot.types import Question
from topologies import Council, run, table


@pytest.mark.parametrize("width", [60, 100])
async def test_the_live_view_shows_who_reads_whom_and_what_each_answers(width):
    names = ["coder", "second", "small"]
    scripts = [["I say 18.", "It is 18."], ["I say 7.", "So 18."], ["!fail"]]
    agents = {name: ScriptedAgent(name, script) for name, script in zip(names, scripts, strict=True)}
    council = Council(agents=agents, topology="report", hears=table("report", names))
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=40, color_system=None)
    view, frames = LiveView(console), []

    def watch(event):
        view(event)
        with console.capture() as shown:
            console.print(view.__rich__())
        frames.append(shown.get())

    await run(council, Question(text="How many eggs are \x1b[2J left?", kind="number"), run_id="test", watch=watch)
    assert "round 0: each alone" in frames[1]
    reading = next(frame for frame in frames if "round 1" in frame)
    assert "second" in reading
    assert "7 → 18" in frames[-1]
    assert "silent" in frames[-1]
    assert "verdict: 18" in frames[-1]
    assert all("\x1b[2J" not in frame for frame in frames)
    assert all(len(line) <= width for frame in frames for line in frame.splitlines())
