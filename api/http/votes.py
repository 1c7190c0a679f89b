"""`/v1/votes`: answers from anywhere in, the crowd's verdict out, with how alike each text is to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.http.errors import ApiError, ErrorEnvelope
from api.http.service import Serving
from api.http.types import Exact
from eot.errors import NoQuorumError
from eot.settings import VoteMethod
from eot.text import MAX_CHARACTERS
from eot.types import Kind, Verdict
from scoring import AnswerRow, Embed, answer_row, vote

router = APIRouter(prefix="/v1", tags=["votes"])

Matrix = list[list[float]]
_MOST_STEPS = 2_000_000
"""About a second, since they are taken for the verdict and for the matrices."""


class Candidate(Exact):
    """One answer. Without `answer` it is read from `text`; with `answer` null it is an abstention."""

    text: str | None = None
    answer: str | float | bool | None = None
    agent: str | None = None
    weight: Annotated[float, Field(gt=0, le=1e6)] | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class VoteRequest(Exact):
    candidates: list[str | Candidate] = Field(min_length=1, max_length=100)
    question: str = ""
    kind: Kind | None = None
    choices: Annotated[dict[str, str], Field(max_length=26)] = Field(default_factory=dict)
    method: VoteMethod = "auto"
    wsdm: bool = False


class VoteObject(BaseModel):
    """`scores` has a matrix for each similarity, rows and columns in the order of `voters`, abstainers too."""

    object: Literal["vote"] = "vote"
    kind: Kind
    verdict: Verdict
    voters: list[str]
    scores: Mapping[str, Matrix]


@router.post("/votes", responses={503: {"model": ErrorEnvelope, "description": "Embeddings are not at hand."}})
async def cast(body: VoteRequest, service: Serving) -> VoteObject:
    """Vote on answers. Nobody is asked anything."""
    _refuse_too_long(body)
    async with service.voting:
        return await asyncio.to_thread(_cast, body, service.house.embedder(body.method))


def _refuse_too_long(body: VoteRequest) -> None:
    size = sum(len(each if isinstance(each, str) else each.text or "") for each in body.candidates)
    size += len(body.question) + sum(map(len, body.choices.values()))
    if size > MAX_CHARACTERS:
        raise ApiError(
            413, f"the texts have {size:,} characters; at most {MAX_CHARACTERS:,} are taken", code="too_long"
        )


def _cast(body: VoteRequest, embed: Embed | None) -> VoteObject:
    row = _row(body)
    if body.wsdm:
        _refuse_too_much_work([ballot.text for ballot in row.ballots])
    return _voted(row, body, embed)


def _refuse_too_much_work(texts: list[str]) -> None:
    """The winner's word similarity goes word by word, in Python: of texts that others take in stride, for hours."""
    from scoring.wsdm import steps  # noqa: PLC0415 - numpy waits until somebody votes

    if (needed := steps(texts)) > _MOST_STEPS:
        raise ApiError(
            413,
            f"with wsdm these {len(texts)} texts would take {needed:,} comparisons of words, and {_MOST_STEPS:,} are "
            "made at most: send fewer or shorter texts, or leave wsdm out",
            param="wsdm",
            code="too_much_work",
        )


def _row(body: VoteRequest) -> AnswerRow:
    told: dict[str, Any] = body.model_dump(exclude_unset=True, exclude={"method", "wsdm"})
    try:
        return answer_row(told)
    except (ValueError, TypeError) as fault:
        raise ApiError(400, str(fault), code="invalid_value") from None


def _voted(row: AnswerRow, body: VoteRequest, embed: Embed | None) -> VoteObject:
    from scoring.comparison import compare  # noqa: PLC0415 - numpy waits until somebody votes

    ballots = row.ballots
    try:
        verdict = vote(ballots, method=body.method, kind=row.kind, embed=embed, wsdm=body.wsdm)
    except NoQuorumError as fault:
        raise ApiError(400, str(fault), param="candidates", code="nothing_said") from None
    compared = compare(
        [ballot.text for ballot in ballots], [ballot.weight for ballot in ballots], "sum", embed, exact=body.wsdm
    )
    return VoteObject(
        kind=row.kind,
        verdict=verdict,
        voters=[ballot.voter for ballot in ballots],
        scores={signal: [list(line) for line in lines] for signal, lines in compared.scores.items()},
    )
