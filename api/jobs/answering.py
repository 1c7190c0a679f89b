"""One item answered: within the batch's caps, tried again where that may help, stopped when its batch is."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from redis.exceptions import RedisError

from api.http.errors import ApiError, as_api_error
from api.jobs.endpoints import Body, Endpoint, Endpoints, NotAnsweredError, usage_in
from api.store import Batch, Estimate, Item, Outcome, Store
from eot.types import Usage

_log = logging.getLogger(__name__)

_WAITS = (2.0, 8.0)
"""Seconds before an item is tried again: a provider that is down fails whatever is in work, not the whole batch."""
_PASSING = frozenset({429, 502, 503, 504})


@dataclass
class Answering:
    """The items in work in this process, by batch."""

    store: Store
    endpoints: Endpoints
    booked: Book
    count: Callable[[str], None]
    in_work: defaultdict[str, set[asyncio.Task[Outcome | None]]] = field(default_factory=lambda: defaultdict(set))
    closed: bool = False
    """Set when this process ends: an item that was on its way to be asked is left, too."""

    async def outcome(self, batch: Batch, item: Item) -> Outcome | None:
        """How the item ended; None when it was stopped, or is to be asked later: the sweep queues it again."""
        if self.closed:
            return None
        work = asyncio.create_task(self._outcome(batch, item), name=f"{batch.id}:{item.line}")
        self.in_work[batch.id].add(work)
        try:
            return await work
        except asyncio.CancelledError:
            if (asking := asyncio.current_task()) and asking.cancelling():
                raise
            return None
        finally:
            self.in_work[batch.id].discard(work)
            if not self.in_work[batch.id]:
                del self.in_work[batch.id]

    def stop(self, batch: str) -> None:
        """End the calls under way for this batch: whatever they would bring, nobody wants it any more."""
        for work in self.in_work.get(batch, ()):
            work.cancel()

    def close(self) -> None:
        """End all calls under way, and begin no more."""
        self.closed = True
        for batch in self.batches:
            self.stop(batch)

    @property
    def batches(self) -> list[str]:
        return list(self.in_work)

    async def _outcome(self, batch: Batch, item: Item) -> Outcome | None:
        endpoint, body = self.endpoints[batch.endpoint], json.loads(item.request)
        most = (await endpoint.pricing())(body) if batch.owner or batch.max_calls is not None else Estimate()
        calls = None if batch.max_calls is None else most.calls_most
        async with self.booked(batch.owner, most.input_tokens_most + most.output_tokens_most) as may_begin:
            match await self._may_begin(batch, item, calls) if may_begin else "later":
                case "later":
                    return None
                case "no":
                    return _outcome(item, 402, "", _CAP_REACHED)
            return await self._answered(batch, item, endpoint, body, calls)

    async def _answered(
        self, batch: Batch, item: Item, endpoint: Endpoint, body: Body, calls: int | None
    ) -> Outcome | None:
        run_id = f"batch:{batch.id}:{item.line}"  # not its custom_id, which may be a person's: run ids are logged
        fault = ApiError(500, "not asked")
        for wait in (*(() if batch.max_calls else _WAITS), None):
            try:
                answer = await endpoint.perform(body, batch.owner, run_id, calls)
            except (NotAnsweredError, sqlite3.Error, RedisError) as gone:
                _log.warning("line %d of %s is asked again: %s", item.line, batch.id, type(gone).__name__)
                return None
            except Exception as caught:  # noqa: BLE001 - whatever happens to an item becomes its error line
                fault = as_api_error(caught)
            else:
                return _outcome(item, 200, run_id, answer)
            if fault.body.code == "draining":  # this process goes; another will ask
                return None
            if wait is None or fault.status not in _PASSING:
                break
            self.count("tried_again")
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - no secret
        booked = Usage(calls=calls or 0)  # how many calls a failure took nobody tells: it counts as all it might
        return _outcome(item, fault.status, run_id, fault.envelope).model_copy(update={"usage": booked})

    async def _may_begin(self, batch: Batch, item: Item, calls: int | None) -> Begin:
        """Book the calls of the item's worst case; its outcome, when committed, puts what was spent in their place."""
        if batch.max_calls is None and batch.max_usd is None:
            return "yes"
        spent = await self.store.items.counts(batch.id)
        if batch.max_usd is not None and spent.usd >= batch.max_usd:
            return "no"
        if batch.max_calls is None or calls is None:
            return "yes"
        if await self.store.items.book(batch.id, item.line, calls, batch.max_calls):
            return "yes"
        return "no" if spent.calls + calls > batch.max_calls else "later"


Begin = Literal["yes", "no", "later"]

Book = Callable[[str, float], AbstractAsyncContextManager[bool]]
"""Keeps that many tokens of an owner's a minute for what is asked within; False where they are not there yet."""


def uncounted(outcome: str) -> None:
    """Nobody counts."""
    del outcome


@asynccontextmanager
async def unlimited(owner: str, tokens: float) -> AsyncIterator[bool]:
    """Nobody's tokens are counted."""
    del owner, tokens
    yield True


_CAP_REACHED = ApiError(402, "a cap of the batch was reached before this request", code="budget_spent").envelope


def _outcome(item: Item, status: int, run_id: str, answer: Body) -> Outcome:
    response = {"status_code": status, "request_id": run_id, "body": answer}
    text = json.dumps({"response": response, "error": None}, ensure_ascii=False, separators=(",", ":"))
    ok = status == 200
    return Outcome(line=item.line, ok=ok, body=text, usage=usage_in(answer) if ok else Usage())
