"""`/v1/runs/{id}/feedback`: what a run was worth, for `eot gate train --feedback` to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, model_validator

from api.http.errors import ApiError, ErrorEnvelope
from api.http.service import Owner, Serving
from api.http.types import Exact
from api.service import Service
from api.store import Feedback
from eot.errors import QuestionError
from eot.types import Result
from evaluation import credit
from scoring import canonical

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses={404: {"model": ErrorEnvelope}})


class FeedbackRequest(Exact):
    """One of three: how good the verdict was, the right answer, or how good each agent's own answer was."""

    reward: Annotated[float, Field(ge=0, le=1)] | None = None
    gold: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    scores: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1, max_length=100)] | None = None

    @model_validator(mode="after")
    def _one(self) -> FeedbackRequest:
        if sum(said is not None for said in (self.reward, self.gold, self.scores)) != 1:
            raise ValueError("say one of reward, gold and scores")
        return self


class FeedbackObject(BaseModel):
    """What was said of a run, and what it says of its agents: `scores` of their first answers, in 0..1."""

    object: Literal["run.feedback"] = "run.feedback"
    run_id: str
    reward: float | None = None
    gold: str | None = None
    scores: Mapping[str, float]
    created_at: int


@router.post("/{run_id}/feedback", responses={409: {"model": ErrorEnvelope}})
async def give_feedback(run_id: str, body: FeedbackRequest, service: Serving, owner: Owner) -> FeedbackObject:
    """Say what a run was worth. Said again, it takes the place of what was said before."""
    result = await _result(service, run_id, owner)
    row = Feedback(
        id=run_id,
        owner=owner,
        question=result.question.text,
        given=body.model_dump(exclude_none=True),
        scores=_scores(result, body),
        costs=credit.costs(result.exchange),
    )
    await service.store.feedback.save(row)
    return _object(row)


@router.get("/{run_id}/feedback")
async def get_feedback(run_id: str, service: Serving, owner: Owner) -> FeedbackObject:
    """What was said of a run."""
    row = await service.store.feedback.load(run_id)
    if row is None or row.owner != owner:
        raise ApiError(404, "nothing was said of such a run", param="run_id", code="not_found")
    return _object(row)


async def _result(service: Service, run_id: str, owner: str) -> Result:
    row = await service.native.load(run_id, owner)
    if row is None:
        raise ApiError(404, "there is no such run", param="run_id", code="not_found")
    if row.result is None:
        raise ApiError(409, "this run has no verdict yet, or came to none", code="no_verdict")
    return Result.model_validate(dict(row.result))


def _scores(result: Result, body: FeedbackRequest) -> Mapping[str, float]:
    """Raises QuestionError where the right answer is none to a question of this kind, or an agent did not sit."""
    exchange = result.exchange
    if body.scores is not None:
        if strangers := [name for name in body.scores if name not in exchange.seats]:
            raise QuestionError(f"{strangers[0]!r} did not sit in this run; {', '.join(exchange.seats)} did")
        return body.scores
    if body.reward is not None:
        return credit.by_reward(exchange, result.verdict, body.reward)
    stated = body.gold or ""
    gold = stated.strip() if exchange.kind == "open" else canonical(stated, exchange.kind, result.question.choices)
    if not gold:
        raise QuestionError(f"the right answer, as it is given, is no answer to a question of kind {exchange.kind}")
    return credit.by_gold(exchange, gold)


def _object(row: Feedback) -> FeedbackObject:
    said = {key: row.given[key] for key in ("reward", "gold") if key in row.given}
    return FeedbackObject(run_id=row.id, scores=row.scores, created_at=int(row.created), **said)
