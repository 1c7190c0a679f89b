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
    row = _row(body)
    return await asyncio.to_thread(_voted, row, body, service.house.embedder(body.method))


def _row(body: VoteRequest) -> AnswerRow:
    size = sum(len(each if isinstance(each, str) else each.text or "") for each in body.candidates)
    if size > MAX_CHARACTERS:
        raise ApiError(
            400, f"the texts have {size:,} characters; at most {MAX_CHARACTERS:,} are taken", code="too_long"
        )
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
