"""What fused sets are asked for directly: who may be a member, the writing of it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agents import CallRecord
from api.http.errors import ApiError
from eot.errors import CallError, ContextOverflowError, InputError, RateLimitedError, UnknownNameError
from eot.fusion import FusionSettings
from eot.settings import FUSION, Settings
from eot.types import Usage
from local_models import CATALOGUE, Generation, Sampling
from local_models.engine import Messages, TokenLogprob

if TYPE_CHECKING:
    from api.service import Service
    from local_models.fusion import FusionEngine

_MOST_NEIGHBOURS = 64
_LONGEST_NAME = 200


class Piece(NamedTuple):
    """Text of one choice that has become certain, and the token that made it so, if tokens are told."""

    choice: int
    text: str
    told: TokenLogprob | None = None


class Ended(NamedTuple):
    choice: int
    made: Generation


@dataclass(frozen=True)
class FusedAsk:
    """`prompts` are texts to go on from, or one conversation; each is answered `n` times, from seeds one apart.

    `settings` describe the set, or are None where `name` is that of a table of the operator's.
    """

    name: str
    settings: FusionSettings | None
    prompts: Sequence[str] | Messages
    sampling: Sampling
    n: int = 1
    chat: bool = False

    @property
    def choices(self) -> int:
        return self.n if self.chat else self.n * len(self.prompts)


def fusable(settings: Settings) -> dict[str, str]:
    """The names by which a request may choose members, and the local model that each stands for.

    Those are the catalogue's language models and the operator's agents that run on a local model: what a request
    names is never taken for a path.
    """
    local = {
        name: agent.model.removeprefix("local/")
        for name, agent in settings.agents.items()
        if agent.model.startswith("local/")
    }
    return {model.name: model.name for model in CATALOGUE.values() if model.kind == "gguf"} | local


def described(asked: FusionSettings, settings: Settings) -> FusionSettings:
    """The set that a request describes, its members found among those that may be chosen.

    Raises:
        UnknownNameError: there is no such member.
        InputError: a member is named twice, or it asks for what only the operator may spend.
    """
    known = fusable(settings)
    for name in asked.members:
        if name not in known:
            raise UnknownNameError("member", name[:_LONGEST_NAME], known)
    if len({known[name] for name in asked.members}) < len(asked.members):
        raise InputError("two members are the same model; name it once, and give it a weight")
    if asked.rows == "released" or asked.neighbours > _MOST_NEIGHBOURS:
        raise InputError(
            f"rows = 'released' and more than {_MOST_NEIGHBOURS} neighbours take gigabytes: "
            "only eot.toml can ask for them"
        )
    return asked.model_copy(update={"members": tuple(known[name] for name in asked.members)})


def shown(member: str) -> str:
    """A member as it is told outside: where a file lies is nobody's business."""
    return member if member in CATALOGUE else Path(member).name


class Writing:
    """One request to a set, under way: it takes a place among the runs, and is ended by `cancel`."""

    def __init__(self, service: Service, ask: FusedAsk, owner: str) -> None:
        self._service, self.ask, self._owner = service, ask, owner
        self.settings, self.method = ask.settings, ""
        self._news = asyncio.Queue[Piece | Ended | Exception | None]()
        self._began, self._first, self._heard = time.perf_counter(), 0.0, 0
        self._task = asyncio.create_task(self._write())

    def cancel(self) -> None:
        self._task.cancel()

    async def follow(self, patience: float | None = None) -> AsyncIterator[Piece | Ended | None]:
        """What comes of it, until every choice has ended. None: `patience` seconds of silence.

        Raises:
            ApiError, EotError: what ended it instead.
        """
        while True:
            try:
                news = await asyncio.wait_for(self._news.get(), patience)
            except TimeoutError:
                yield None
                continue
            if news is None:
                return
            if isinstance(news, Exception):
                raise news
            yield news

    async def _write(self) -> None:
        outcome, made = "crashed", list[Generation]()
        try:
            with self._service.runs.place():
                made = await self._made()
            outcome = "ok"
            self._news.put_nowait(None)
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as fault:  # noqa: BLE001 - whoever follows is told it
            outcome = fault.reason if isinstance(fault, CallError) else "error"
            self._news.put_nowait(_told(fault))
        finally:
            self._note(outcome, made)

    async def _made(self) -> list[Generation]:
        house, ask = self._service.house, self.ask
        if ask.settings is None:
            return await self._all(await house.fused(ask.name))
        async with house.lending.lend(ask.settings, ask.name) as engine:
            return await self._all(engine)

    async def _all(self, engine: FusionEngine) -> list[Generation]:
        """Every choice; when one fails, or the reader goes, none goes on."""
        self.settings, self.method = engine.settings, engine.method
        tasks = [asyncio.create_task(self._one(engine, index)) for index in range(self.ask.choices)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, engine: FusionEngine, index: int) -> Generation:
        ask = self.ask
        sampling = ask.sampling
        if sampling.seed is not None:
            sampling = replace(sampling, seed=sampling.seed + index % ask.n)

        def trace(text: str, told: TokenLogprob | None) -> None:
            self._first = self._first or time.perf_counter() - self._began
            self._heard += 1
            self._news.put_nowait(Piece(index, text, told))

        if ask.chat:
            made = await engine.generate(ask.prompts, sampling, trace=trace)  # type: ignore[arg-type]
        else:
            made = await engine.complete(str(ask.prompts[index // ask.n]), sampling, trace=trace)
        self._news.put_nowait(Ended(index, made))
        return made

    def _note(self, outcome: str, made: Sequence[Generation]) -> None:
        """Count it, and charge the caller's key: where it did not end, for what was heard."""
        usage = usage_of(made) if made else Usage(calls=1, output_tokens=self._heard, cost_usd=0.0)
        self._service.limits.charge(self._owner, usage)
        # A set that a request describes has no label of its own: there are too many.
        label = self.ask.name if self.ask.settings is None else FUSION
        self._service.observing.call(
            CallRecord(
                agent=label,
                model=label,
                round=0,
                outcome=outcome,
                seconds=time.perf_counter() - self._began,
                usage=usage,
                first_token_seconds=self._first or None,
            )
        )


def usage_of(made: Sequence[Generation]) -> Usage:
    """What all choices took: every member reads the prompt, all together write one reply."""
    return Usage(
        calls=len(made),
        input_tokens=sum(one.input_tokens for one in made),
        output_tokens=sum(one.output_tokens for one in made),
        cost_usd=0.0,
    )


def _told(fault: Exception) -> Exception:
    """A fault that has another status here than in a council."""
    if isinstance(fault, ContextOverflowError):
        return ApiError(400, str(fault), param="messages", code="context_length_exceeded")
    if isinstance(fault, RateLimitedError):
        wait = str(int(fault.retry_after or 1))
        return ApiError(429, str(fault), code="models_in_use", headers={"retry-after": wait})
    return fault


def sets_of(settings: Settings) -> Mapping[str, FusionSettings]:
    """The operator's sets by the names that a request gives them."""
    return {FUSION + name: table for name, table in settings.fusions.items()}
