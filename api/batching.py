"""What batches are made of in a serving process: the same functions that the HTTP routes call, and the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from agents import Prices
from api.asks import Ask
from api.http.chat import ask_of, complete_chat
from api.http.chat_types import ChatRequest
from api.http.embeddings import EmbeddingsRequest, complete_embeddings
from api.http.errors import ApiError
from api.http.response_requests import ResponsesRequest
from api.http.responses import ask_of_response, complete_response
from api.http.run_types import RunObject, RunRequest
from api.http.runs import complete_run
from api.jobs.endpoints import Body, Endpoint, Endpoints, NotAnsweredError
from api.jobs.engine import Engine
from api.jobs.estimate import estimate
from api.service import Service
from api.store import Estimate
from eot.errors import EotError

B = TypeVar("B", bound=BaseModel)
_SEEDS = 2**31


def engine(service: Service, at_once: int) -> Engine:
    """The jobs of this process; with Redis the queue is shared with every other process on the same Redis."""
    metrics = service.observing.metrics
    made = Engine(
        service.store,
        endpoints(service),
        url=service.settings.serve.store,
        at_once=at_once,
        booked=service.limits.booked,
        count=metrics.item,
    )
    metrics.gauge("eot_batch_requests_in_work", "Requests of batches in work in this process.", lambda: made.in_work)
    metrics.gauge(
        "eot_batch_requests_waiting", "Requests of batches without an outcome, a second ago.", lambda: made.left
    )
    return made


def endpoints(service: Service) -> Endpoints:
    """The requests that a batch may be made of, by their path."""
    settings = service.settings
    chat = _Questions(ChatRequest, lambda body: ask_of(body, settings), partial(complete_chat, service))
    responses = _Questions(
        ResponsesRequest, lambda body: ask_of_response(body, settings), partial(complete_response, service)
    )
    runs = _Questions(RunRequest, lambda body: body.ask(settings), partial(complete_run, service))
    return {
        "/v1/chat/completions": chat.endpoint(service),
        "/v1/responses": responses.endpoint(service),
        "/v1/embeddings": _embeddings(service),
        "/v1/runs": runs.endpoint(service),
    }


def _embeddings(service: Service) -> Endpoint:
    async def perform(body: Body, owner: str, run_id: str, calls: int | None) -> Body:
        del owner, run_id, calls  # nothing is kept and nothing is paid
        return (await complete_embeddings(service, _read(EmbeddingsRequest, body))).model_dump(mode="json")

    async def free() -> Callable[[Body], Estimate]:
        return lambda _: Estimate()

    return Endpoint(partial(_fault_in, partial(_read, EmbeddingsRequest)), free, perform)


def _read(kind: type[B], body: Body) -> B:
    try:
        return kind.model_validate(body)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ApiError(400, f"{where}: {first['msg'].removeprefix('Value error, ')}", param=where) from None


def _fault_in(read: Callable[[Body], object], body: Body) -> str:
    try:
        read(body)
    except (ApiError, EotError) as fault:
        return str(fault)
    return ""


class _Questions:
    """How one kind of request is read (`body`), understood (`ask`) and answered (`complete`)."""

    def __init__(self, body: type[B], ask: Callable[[B], Ask], complete: Callable[..., Awaitable[BaseModel]]) -> None:
        self._body: type[BaseModel] = body
        self._ask: Callable[..., Ask] = ask
        self._complete = complete
        self._last: tuple[Body, Ask] | None = None

    def endpoint(self, service: Service) -> Endpoint:
        return Endpoint(partial(_fault_in, self._asked), _Pricing(service, self._asked).price, self._perform)

    def _asked(self, body: Body) -> Ask:
        """What a request means; it is checked and then priced, and reading it is most of both."""
        if self._last is None or self._last[0] != body:
            self._last = body, self._ask(_read(self._body, body))
        return self._last[1]

    async def _perform(self, body: Body, owner: str, run_id: str, calls: int | None) -> Body:
        """Answer; without a seed of its own a request gets one from its name, so that asked again it is the same."""
        if body.get("seed") is None:
            digest = hashlib.sha256(run_id.encode()).digest()
            body = {**body, "seed": int.from_bytes(digest[:8], "big") % _SEEDS}
        read = _read(self._body, body)
        answered = await self._complete(read, owner=owner, run_id=run_id, job=True, calls=calls)
        if isinstance(answered, RunObject) and answered.status == "running":
            raise NotAnsweredError  # it ended, and the store did not take its end
        return answered.model_dump(mode="json")


class _Pricing:
    """Reckons what requests may take. Prices are looked up once."""

    def __init__(self, service: Service, asked: Callable[[Body], Ask]) -> None:
        self._service, self._asked = service, asked
        self._prices: Mapping[str, Prices | None] | None = None

    async def price(self) -> Callable[[Body], Estimate]:
        if self._prices is None:
            self._prices = await self._service.house.prices()
        agents, prices = self._service.settings.agents, self._prices

        def reckoned(body: Body) -> Estimate:
            ask = self._asked(body)
            times = body.get("n") or 1
            question = ask.question
            size = len(question.text) + len(question.context) + sum(map(len, question.choices.values()))
            size = max(size, sum(len(message.content) for message in ask.verbatim))
            once = estimate(size, ask.council, agents, prices)
            return sum((once for _ in range(times)), Estimate())

        return reckoned
