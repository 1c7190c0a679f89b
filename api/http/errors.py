"""Every error in OpenAI's envelope, the framework's own too: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from eot.errors import (
    BudgetError,
    CallError,
    EotError,
    InputError,
    MissingExtraError,
    NoQuorumError,
    UnknownNameError,
    WeightsError,
)
from eot.text import clean

_STATUSES: tuple[tuple[type[EotError], int, str], ...] = (
    (UnknownNameError, 404, "not_found"),
    (MissingExtraError, 503, "not_installed"),
    (InputError, 400, "invalid_value"),
    (WeightsError, 503, "weights_missing"),
    (NoQuorumError, 502, "no_quorum"),
    (BudgetError, 402, "budget_spent"),
    (CallError, 502, "agent_failed"),
    (EotError, 500, "failed"),
)
"""The first class that fits says the status and the code."""

_TYPES: Mapping[int, str] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_LONGEST_MESSAGE = 2000
_TYPE_NAME = re.compile(r"[A-Z]|str$|(?:list|dict|function-)\W")
"""What pydantic puts into a fault's place to say which type of a union it tried."""
_CLIENT_MUST_NOT_REPEAT = {"x-should-retry": "false"}
"""Clients ask again after a 5xx by themselves; a council that failed has had its own retries, and each try costs."""


class ClientGoneError(Exception):
    """Nobody is there any more to be answered."""


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorEnvelope(BaseModel):
    error: ErrorBody


class ApiError(Exception):
    """An answer that is not a success. `message` is one line for the user: what was wrong, and what would be right."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,  # noqa: A002 - the envelope's word
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        said = clean(message)[:_LONGEST_MESSAGE]
        self.body = ErrorBody(message=said, type=type or type_of(status), param=param, code=code)

    @property
    def envelope(self) -> dict[str, Any]:
        return ErrorEnvelope(error=self.body).model_dump()


def type_of(status: int) -> str:
    """What OpenAI calls the family of this status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def as_api_error(fault: Exception) -> ApiError:
    """Whatever went wrong, as it is told outside: an error of ours in its own words, any other without details."""
    if isinstance(fault, ApiError):
        return fault
    for kind, status, code in _STATUSES:
        if isinstance(fault, kind):
            headers = _CLIENT_MUST_NOT_REPEAT if status >= 500 or status == 402 else None
            return ApiError(status, str(fault), code=code, headers=headers)
    if isinstance(fault, sqlite3.Error | RedisError):
        said = f"the store does not answer: {type(fault).__name__}; ask again in a moment"
        return ApiError(503, said, code="store_down", headers={"retry-after": "2"})
    return ApiError(
        500, "something went wrong inside the server; its log says more under this x-request-id", code="internal"
    )


def answer(fault: ApiError) -> JSONResponse:
    return JSONResponse(fault.envelope, status_code=fault.status, headers=fault.headers)


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _ours)
    app.add_exception_handler(EotError, _ours)
    app.add_exception_handler(ClientGoneError, _nobody)
    app.add_exception_handler(HTTPException, _frameworks)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _ours(_: Request, fault: Exception) -> JSONResponse:
    return answer(as_api_error(fault))


async def _nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nginx's word for it; only logs and metrics will see it


async def _frameworks(request: Request, fault: Exception) -> JSONResponse:
    assert isinstance(fault, HTTPException)
    told = {
        404: f"there is nothing at {request.method} {request.url.path}; /openapi.json lists what there is",
        405: f"{request.url.path} does not take {request.method}",
        413: "the body is too large",
    }
    message = told.get(fault.status_code, str(fault.detail))
    codes = {400: "invalid_json", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    return answer(ApiError(fault.status_code, message, code=codes.get(fault.status_code), headers=fault.headers))


async def _invalid(request: Request, fault: Exception) -> JSONResponse:
    """One fault, by the name of its field. Never what was sent: it may be long, secret or no valid text."""
    assert isinstance(fault, RequestValidationError)
    first = max(fault.errors(), key=lambda error: len(error["loc"]))  # of a union's faults the one that got furthest
    if first["type"] == "json_invalid":
        return answer(ApiError(400, f"the body is not JSON: {first['ctx']['error']}", code="invalid_json"))
    if isinstance(fault.body, bytes) and first["loc"] == ("body",):  # nobody read it, since it does not say it is JSON
        said = clean(request.headers.get("content-type", ""))[:80] or "nothing"
        told = f"the content-type says {said}; send the body as application/json"
        return answer(ApiError(415, told, code="unsupported_media_type"))
    where = [str(part) for part in first["loc"][1:] if not _TYPE_NAME.match(str(part))]
    param = clean(".".join(where))[:200] or None
    said = first["msg"].removeprefix("Value error, ")
    message = f"{param}: {said}" if param else f"the body: {said}"
    return answer(ApiError(422, message, param=param, code=first["type"]))
