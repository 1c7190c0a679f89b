"""Runs in flight: each has a log of its events that any number of readers follow, from any point of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from agents import Mended, Stoppable, Stopper, Verbatim
from api.asks import Ask
from api.compose import House
from api.http.errors import ApiError
from api.observing import Observing
from eot.errors import StoppedError
from eot.events import Event, Token, TurnEnded, Watch
from eot.settings import AgentSettings
from eot.types import Agent, Result
from topologies import Council, json_fault, run

Status = Literal["running", "completed", "failed", "stopped"]


class Run:
    """One run: begun when it is made, ended when `status` is no longer "running".

    Events are numbered on from `told`: 0, or what its earlier lives may have told at most. The pieces of a turn leave
    the log when the turn has ended, since its end has the whole text: so a log stays small, and who comes back late is
    told each turn once.
    """

    def __init__(self, ask: Ask, council: Council, *, run_id: str, owner: str, watch: Watch, told: int) -> None:
        self.id, self.owner, self.ask = run_id, owner, ask
        self.created = time.time()
        self.status: Status = "running"
        self.result: Result | None = None
        self.fault: Exception | None = None
        self.log: list[tuple[int, Event]] = []
        self._watches = [watch]
        self.told = told
        self._news = asyncio.Event()
        self._stopper = Stopper()
        self._task = asyncio.create_task(self._play(council), name=run_id)

    async def wait(self) -> Result:
        """The result, when there is one. The run goes on if the waiting is cancelled.

        Raises:
            EotError: what ended the run instead.
        """
        await asyncio.wait([self._task])
        if self.fault:
            raise self.fault
        assert self.result is not None
        return self.result

    def watched_by(self, watch: Watch) -> None:
        """Hand every event from now on to this watcher too."""
        self._watches.append(watch)

    async def ended(self, within: float | None = None) -> None:
        """Return when the run has ended, however it did, or `within` seconds have passed."""
        await asyncio.wait([self._task], timeout=within)

    def when_ended(self, then: Callable[[], None]) -> None:
        self._task.add_done_callback(lambda _: then())

    def stop(self) -> None:
        """End the calls under way and vote on what there is."""
        self._stopper.stop()

    def cancel(self) -> None:
        """End the run without a vote: nobody waits for it any more."""
        self._task.cancel()

    async def follow(self, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """Each event past number `after`, as it comes, until the run has ended.

        A number from an earlier life of the run is below all of these: then all is told again. So it is after one that
        was never told.
        """
        after = 0 if after > self.told + 1 else after
        while True:
            news, ended = self._news, self._task.done()
            for number, event in self.log[bisect_right(self.log, after, key=lambda entry: entry[0]) :]:
                after = number
                yield number, event
            if ended:
                return
            if news is self._news:
                await news.wait()

    async def _play(self, council: Council) -> None:
        try:
            agents = {name: self._seated(agent) for name, agent in council.agents.items()}
            self.result = await run(
                replace(council, agents=agents), self.ask.question, run_id=self.id, seed=self.ask.seed, watch=self._tell
            )
            self.status = "stopped" if self._stopper.stopped else "completed"
        except asyncio.CancelledError:
            self.status, self.fault = "stopped", StoppedError("the run was stopped")
            raise
        except Exception as fault:  # noqa: BLE001 - whoever waits is told it
            self.status, self.fault = "stopped" if self._stopper.stopped else "failed", fault
        finally:
            asyncio.get_running_loop().call_soon(self._wake)  # by then the task is done

    def _seated(self, agent: Agent) -> Agent:
        agent = Verbatim(agent, self.ask.verbatim, self.ask.options) if self.ask.verbatim else agent
        if self.ask.question.kind == "json":
            agent = Mended(agent, lambda text: json_fault(text, self.ask.question.json_schema))
        return Stoppable(agent, self._stopper)

    def _tell(self, event: Event) -> None:
        if isinstance(event, TurnEnded):
            turn = event.turn
            self.log = [entry for entry in self.log if not _is_piece(entry[1], turn.agent, turn.round)]
        self.told += 1
        self.log.append((self.told, event))
        for watch in self._watches:
            watch(event)
        self._wake()

    def written(self) -> str:
        """The events so far as JSON lines with their numbers, without the pieces of turns."""
        whole = ((number, event) for number, event in self.log if not isinstance(event, Token))
        return "\n".join(f'{{"number":{number},"event":{event.model_dump_json()}}}' for number, event in whole)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _is_piece(event: Event, agent: str, turn: int) -> bool:
    return isinstance(event, Token) and event.agent == agent and event.round == turn


class Runs:
    """The runs of this process. `observing` is handed every event of every run, and told of every end."""

    def __init__(self, house: House, at_most: int, observing: Observing) -> None:
        self._house, self._at_most, self._observing = house, at_most, observing
        self._places, self._others = 0, 0
        self.live: dict[str, Run] = {}

    def __len__(self) -> int:
        return len(self.live) + self._others

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places, for work that is no run but counts as one.

        Raises:
            ApiError: 429, as of `start`.
        """
        self.refuse_when_full()
        self._places += 1
        self._others += 1
        try:
            yield
        finally:
            self._places -= 1
            self._others -= 1

    async def start(
        self,
        ask: Ask,
        *,
        owner: str = "",
        run_id: str | None = None,
        keep: bool = False,
        job: bool = False,
        told: int = 0,
    ) -> Run:
        """Seat the council and begin.

        `keep` keeps every reply under `run_id`, so that the run can be begun again without paying twice. A `job` takes
        none of the places that are for whoever waits. Its events are numbered on from `told`.

        Raises:
            ApiError: 429, as many runs are in flight as may be.
            EotError: the council cannot sit.
        """
        if not job:
            self.refuse_when_full()
        places = 0 if job else 1
        self._places += places
        try:
            seats = await self._house.seated(ask.council, ask.question)
            tuned = self._tuned(ask, seats.agents)
            council = await self._house.council(seats, tuned=tuned, keep=keep)
            begun = Run(ask, council, run_id=run_id or new_id(), owner=owner, watch=self._observing, told=told)
        except BaseException:
            self._places -= places
            raise
        self.live[begun.id] = begun
        begun.when_ended(lambda: self._ended(begun, places))
        return begun

    def refuse_when_full(self, asked: int = 0) -> None:
        """Raise a 429 that says when to come back, if as many runs are in flight as may be, or `asked` for already."""
        if max(asked, self._places) >= self._at_most:
            raise ApiError(
                429,
                f"{self._at_most} runs are in flight, which is all this server takes at once; ask again later",
                code="too_many_runs",
                headers={"retry-after": "1"},
            )

    def _ended(self, ended: Run, places: int) -> None:
        self._places -= places
        self.live.pop(ended.id, None)
        self._observing.ended(ended.id, type(ended.fault).__name__ if ended.fault else "")

    def _tuned(self, ask: Ask, seats: Iterable[str]) -> dict[str, AgentSettings]:
        """The agents' settings with what this run changes about them."""
        if not ask.sampling and ask.max_tokens is None:
            return {}
        agents = {name: known for name in seats if (known := self._house.settings.agent(name))}
        lowered = {name: min(ask.max_tokens or known.max_tokens, known.max_tokens) for name, known in agents.items()}
        return {
            name: known.model_copy(update={"max_tokens": lowered[name], **ask.sampling})
            for name, known in agents.items()
        }


def new_id() -> str:
    return f"run_{uuid.uuid4().hex}"


def is_own_id(run_id: str) -> bool:
    """Whether `new_id` made it."""
    return run_id.startswith("run_")
