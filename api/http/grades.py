"""`/v1/runs/{id}/grade`: what the exchange did to the answer, where the right one is known."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.http.errors import ApiError, ErrorEnvelope
from api.http.service import Owner, Serving
from api.http.types import Exact
from eot.errors import QuestionError
from eot.types import Result
from evaluation.grading import is_right
from scoring import canonical

router = APIRouter(prefix="/v1/runs", tags=["runs"], responses={404: {"model": ErrorEnvelope}})


class GradeRequest(Exact):
    gold: Annotated[str, Field(min_length=1, max_length=10_000)]
    """The right answer."""


class Grade(BaseModel):
    """Whether the first answers alone (`first`), and the verdict (`last`), give the right answer."""

    object: Literal["grade"] = "grade"
    first: bool | None
    last: bool
    effect: Literal["mended", "broke", "nothing", "unknown"]


@router.post("/{run_id}/grade", responses={409: {"model": ErrorEnvelope}})
async def grade_run(run_id: str, body: GradeRequest, service: Serving, owner: Owner) -> Grade:
    """Hold a run's verdict, and the vote over its first answers, against the right answer."""
    row = await service.native.load(run_id, owner)
    if row is None:
        raise ApiError(404, "there is no such run", param="run_id", code="not_found")
    if row.result is None:
        raise ApiError(409, "this run has no verdict to be graded", code="no_verdict")
    return _grade(Result.model_validate(dict(row.result)), body.gold)


def _grade(result: Result, stated: str) -> Grade:
    """Raises QuestionError where that is no answer to a question of this kind."""
    kind, choices, verdict = result.exchange.kind, result.question.choices, result.verdict
    gold = stated.strip() if kind == "open" else canonical(stated, kind, choices)
    if not gold:
        raise QuestionError(f"the right answer, as it is given, is no answer to a question of kind {kind}")
    last = is_right(verdict.answer, gold, kind, choices, verdict.text)
    shadow = verdict.shadow
    first = None if shadow is None else is_right(shadow.answer, gold, kind, choices)
    return Grade(first=first, last=last, effect=_effect(first=first, last=last))


def _effect(*, first: bool | None, last: bool) -> Literal["mended", "broke", "nothing", "unknown"]:
    if first is None:
        return "unknown"
    return "nothing" if first == last else "mended" if last else "broke"
