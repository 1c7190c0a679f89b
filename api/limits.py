"""What a key may still do: requests and tokens a minute, dollars in all. Shared by all processes through the store."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass

from api.http.errors import ApiError
from api.keys import Caller, Keyring, spent_key
from api.store import STORE_FAULTS, Level, Store
from eot.errors import BudgetError
from eot.events import Event, TurnEnded, Watch
from eot.settings import CouncilSettings
from eot.types import Thought, Usage

_log = logging.getLogger(__name__)

_BATCHES_SHARE = 0.8
"""How much of a key's tokens a minute its batches may take: the rest is there for whoever waits for an answer."""


@dataclass
class _Booking:
    """Tokens of a key's window that were taken before they are used: what is used comes out of them first."""

    left: float

    def cover(self, tokens: float) -> float:
        covered = min(self.left, tokens)
        self.left -= covered
        return covered


@dataclass
class _Money:
    """What is known here, without asking the store, of a key that has a cap on dollars."""

    cap: float
    spent: float
    """As the store last said."""
    uncharged: float = 0.0
    """Spent here, and on its way to the store."""

    @property
    def is_spent(self) -> bool:
        return self.spent + self.uncharged >= self.cap


_booking: ContextVar[_Booking | None] = ContextVar("booking", default=None)
"""What the runs that begin here, and now, are charged to first."""


class Limits:
    """Lets requests in, and charges a key for what its runs use.

    Requests are counted before they are read. Tokens and dollars are known only when a turn has ended: a key whose
    tokens are used up waits until its bucket has refilled, and one whose money is spent has its runs stopped.
    """

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._counters, self._keyring = store.counters, keyring
        self._charging: set[asyncio.Task[None]] = set()
        self._money: dict[str, _Money] = {}

    async def admit(self, caller: Caller) -> Mapping[str, str]:
        """Count one request; the `x-ratelimit-` headers of its answer.

        Raises:
            ApiError: 402, the money is spent; 429, too fast, with a Retry-After.
        """
        if caller.max_usd is not None and await self._keyring.spent(caller.id) >= caller.max_usd:
            raise _spent(caller)
        told: dict[str, str] = {}
        if caller.tokens_per_minute is not None:
            level = await self._counters.take(_bucket(caller.id, "tokens"), 0, caller.tokens_per_minute)
            told |= _headers("tokens", caller.tokens_per_minute, level)
            if level.remaining < 1:
                wait = 60 * (1 - level.remaining) / caller.tokens_per_minute
                raise _too_fast("tokens", caller.tokens_per_minute, wait, told)
        if caller.requests_per_minute is not None:
            level = await self._counters.take(_bucket(caller.id, "requests"), 1, caller.requests_per_minute)
            told |= _headers("requests", caller.requests_per_minute, level)
            if not level.taken:
                raise _too_fast("requests", caller.requests_per_minute, level.wait, told)
        return told

    async def within_budget(self, owner: str, council: CouncilSettings) -> CouncilSettings:
        """The council with no more dollars to spend than its owner's key has left.

        Raises:
            BudgetError: nothing is left.
        """
        key = await self._keyring.row(owner) if owner else None
        if key is None or key.max_usd is None:
            return council
        spent = await self._keyring.spent(owner)
        money = self._money.setdefault(owner, _Money(key.max_usd, spent))
        money.spent = max(money.spent, spent)
        left = key.max_usd - spent
        if left <= 0:
            raise BudgetError(f"the key {key.name!r} has spent its {key.max_usd:g} dollars")
        cap = left if council.budget.usd is None else min(left, council.budget.usd)
        return council.model_copy(update={"budget": council.budget.model_copy(update={"usd": cap})})

    @asynccontextmanager
    async def booked(self, owner: str, tokens: float) -> AsyncIterator[bool]:
        """Book tokens of the owner's window for the runs begun within; False where they are not there yet.

        What comes to more than batches may take of a whole window waits until all of that is there. What is left over
        is given back.
        """
        key = await self._keyring.row(owner) if owner else None
        if key is None or key.tokens_per_minute is None:
            yield True
            return
        rate = key.tokens_per_minute
        amount, bucket = min(tokens, _BATCHES_SHARE * rate), _bucket(owner, "tokens")
        if not (await self._counters.take(bucket, amount, rate, leave=(1 - _BATCHES_SHARE) * rate)).taken:
            yield False
            return
        booking = _Booking(amount)
        before = _booking.set(booking)
        try:
            yield True
        finally:
            _booking.reset(before)
            with suppress(*STORE_FAULTS):  # the bucket refills by itself; what was answered must not be lost for it
                await self._counters.take(bucket, -booking.cover(amount), rate, force=True)

    def charging(self, owner: str, stop: Callable[[], None]) -> Watch:
        """A watcher that charges the owner's key for each turn, and calls `stop` when its money is spent."""
        booking = _booking.get()

        def watch(event: Event) -> None:
            if not (owner and isinstance(event, TurnEnded)):
                return
            turn = event.turn
            if not (isinstance(turn, Thought) and turn.recalled):
                self._later(owner, turn.usage, stop, booking)

        return watch

    def charge(self, owner: str, usage: Usage) -> None:
        """Charge the owner's key for what was used outside of any run."""
        if owner:
            self._later(owner, usage, lambda: None, None)

    async def close(self) -> None:
        """Wait until all that was used is charged."""
        await asyncio.gather(*self._charging)

    def _later(self, owner: str, usage: Usage, stop: Callable[[], None], booking: _Booking | None) -> None:
        money = self._money.get(owner)
        if money and usage.cost_usd:
            money.uncharged += usage.cost_usd
            if money.is_spent:  # not when the store has said so: the next calls would be under way by then
                stop()
        task = asyncio.get_running_loop().create_task(self._charge(owner, usage, stop, booking, money))
        self._charging.add(task)
        task.add_done_callback(self._charging.discard)

    async def _charge(
        self, owner: str, usage: Usage, stop: Callable[[], None], booking: _Booking | None, money: _Money | None
    ) -> None:
        tokens = usage.tokens - (booking.cover(usage.tokens) if booking else 0)
        try:
            key = await self._keyring.row(owner)
            if key and key.tokens_per_minute is not None and tokens:
                await self._counters.take(_bucket(owner, "tokens"), tokens, key.tokens_per_minute, force=True)
            if usage.cost_usd:
                total = await self._counters.add(spent_key(owner), usage.cost_usd)
                if money:
                    money.spent = max(money.spent, total)
                    if total >= money.cap:  # other processes spend too
                        stop()
        except Exception as fault:  # noqa: BLE001 - a store that is away must not end a run that is paid for
            facts = {"key": owner, "tokens": usage.tokens, "cost_usd": usage.cost_usd, "fault": type(fault).__name__}
            _log.error("what was used could not be charged", extra={"facts": facts})
        finally:
            if money:
                money.uncharged -= usage.cost_usd or 0.0


def _bucket(owner: str, of: str) -> str:
    return f"key:{owner}:{of}"


def _headers(of: str, limit: int, level: Level) -> dict[str, str]:
    left = max(0, math.floor(level.remaining))
    return {
        f"x-ratelimit-limit-{of}": str(limit),
        f"x-ratelimit-remaining-{of}": str(left),
        f"x-ratelimit-reset-{of}": f"{60 * (limit - level.remaining) / limit:.2f}s",
    }


def _too_fast(of: str, limit: int, wait: float, told: Mapping[str, str]) -> ApiError:
    seconds = max(1, math.ceil(wait))
    return ApiError(
        429,
        f"this key may use {limit:,} {of} a minute; come back in {seconds} s",
        code="rate_limit_exceeded",
        headers={**told, "retry-after": str(seconds)},
    )


def _spent(caller: Caller) -> ApiError:
    return ApiError(
        402,
        f"the key {caller.name!r} has spent its {caller.max_usd:g} dollars",
        code="budget_spent",
        headers={"x-should-retry": "false"},
    )
