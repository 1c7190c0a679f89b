"""What a serving process holds, whatever speaks to it: the settings, the house, the runs in flight."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import replace

from agents.redis_store import RedisCallStore
from api.asks import Ask
from api.compose import House
from api.http.errors import ApiError
from api.jobs.engine import Engine
from api.keys import Keyring
from api.limits import Limits
from api.making import Makings
from api.native import NativeRuns
from api.observing import Observing
from api.pulling import Pulls
from api.runs import Run, Runs
from api.store import STORE_FAULTS, Answer, Store, open_store
from eot.errors import EotError
from eot.settings import Settings

_log = logging.getLogger(__name__)

_STORE_PATIENCE = 2.0
_VOTES_AT_ONCE = 2
"""Each is a thread that computes: more of them would only take the event loop's time, and no vote would end sooner."""
_AN_HOUR = 3600.0


class Service:
    """Made once a process. `open` before the first request, `close` after the last.

    The store is that of the settings unless another is given. `jobs` is set by whoever makes it serve: its items are
    answered by the functions that the routes call.
    """

    jobs: Engine

    def __init__(self, settings: Settings, store: Store | None = None) -> None:
        self.settings = settings
        self.observing = Observing(otel=settings.serve.otel)
        shared = settings.serve.store
        calls = RedisCallStore(shared, kept_days=settings.serve.keep_calls_days) if shared else None
        self.house = House(settings, observe=self.observing.call, calls=calls)
        self.store = store or open_store(settings.serve.store, settings.home)
        self.keyring = Keyring(self.store)
        self.limits = Limits(self.store, self.keyring)
        self.runs = Runs(self.house, settings.serve.max_runs, self.observing)
        self.native = NativeRuns(settings, self.begin, self.store)
        self.pulls = Pulls(settings.home)
        self.voting = asyncio.Semaphore(_VOTES_AT_ONCE)
        self.makings = Makings(self.store, settings.home, self.observing.metrics.making_ended)
        self.draining = False
        self._pruning: asyncio.Task[None] | None = None
        self.observing.metrics.gauge("eot_runs_in_flight", "Runs under way.", lambda: self.in_flight)
        self.observing.metrics.gauge(
            "eot_model_jobs_in_work", "Jobs that make models, under way or waiting.", lambda: len(self.makings)
        )

    async def open(self) -> None:
        """Take part in what the processes on this store do together."""
        if self.settings.serve.store is not None:
            self.house.salt = await self._shared_salt()
        self.native.open()
        self._pruning = asyncio.create_task(self._prune())
        await self.makings.open()

    async def _prune(self) -> None:
        """Forget paid calls that nobody will ask for any more, now and once an hour."""
        while True:
            try:
                before = time.time() - self.settings.serve.keep_calls_days * 86_400
                if pruned := await asyncio.to_thread(self.house.prune_calls, before):
                    _log.info("%d kept calls are forgotten: they are too old", pruned)
            except (*STORE_FAULTS, EotError) as fault:
                _log.warning("old calls cannot be forgotten yet: %s", type(fault).__name__)
            await asyncio.sleep(_AN_HOUR)

    async def _shared_salt(self) -> str:
        """The salt that the first process made. A store that is away for a while is waited for."""
        mine = Answer(id="salt", body_hash=secrets.token_hex(16))
        while True:
            try:
                return (await self.store.answers.save_new(mine) or mine).body_hash
            except STORE_FAULTS as fault:
                _log.warning("waiting for the store: %s", type(fault).__name__)
                await asyncio.sleep(1)

    async def close(self) -> None:
        """Stop what is still under way, let it be voted on, and close what was opened."""
        for run in list(self.runs.live.values()):
            run.stop()
        await asyncio.gather(*(run.ended() for run in list(self.runs.live.values())))
        if self._pruning:
            self._pruning.cancel()
        await self.native.close()
        await self.makings.close()
        await self.limits.close()
        await self.house.close()
        await self.store.close()
        await self.observing.close()

    @property
    def in_flight(self) -> int:
        return len(self.runs)

    async def begin(
        self,
        ask: Ask,
        *,
        owner: str = "",
        run_id: str | None = None,
        keep: bool = False,
        job: bool = False,
        calls: int | None = None,
        told: int = 0,
    ) -> Run:
        """Begin a run, unless this process is on its way out (`Runs.start` says what the words mean).

        `calls` is a cap beside the council's own.
        """
        self.refuse_when_draining()
        council = await self.limits.within_budget(owner, ask.council)
        if calls is not None:
            least = min(calls, council.budget.calls or calls)
            council = council.model_copy(update={"budget": council.budget.model_copy(update={"calls": least})})
        ask = replace(ask, council=council)
        run = await self.runs.start(ask, owner=owner, run_id=run_id, keep=keep, job=job, told=told)
        run.watched_by(self.limits.charging(owner, run.stop))
        return run

    def drain(self) -> None:
        """From now on nothing new is begun; what is under way goes on."""
        self.draining = True
        self.native.drain()
        self.jobs.drain()

    def refuse_when_draining(self) -> None:
        """Raise a 503 that says when to come back, if this process is on its way out."""
        if self.draining:
            raise ApiError(503, "the server is shutting down", code="draining", headers={"retry-after": "5"})

    async def store_fault(self) -> str:
        """Why the store does not answer, or "" when it does."""
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                await self.store.ping()
        except Exception as fault:  # noqa: BLE001 - whatever keeps it from answering is the answer
            return type(fault).__name__
        return ""
