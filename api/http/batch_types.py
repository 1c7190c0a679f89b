"""OpenAI's batches as types, with our field `eot`: caps, what it may take, what it has spent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from api.http.types import Metadata
from api.store import Batch, BatchStatus, Counts, Estimate

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_LONGEST_WINDOW = 30 * 86_400
_STAMPS = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class Caps(BaseModel):
    """What the batch may spend. Requests that come after a cap was reached get an error line."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    max_usd: Annotated[float, Field(gt=0)] | None = None
    max_calls: Annotated[int, Field(ge=1)] | None = None


class BatchRequest(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    input_file_id: str = Field(max_length=200)
    endpoint: str = Field(max_length=200)
    completion_window: str = Field(default="24h", pattern=r"^[1-9][0-9]{0,5}[mhd]$")
    metadata: Metadata | None = None
    eot: Caps | None = None

    @field_validator("completion_window")
    @classmethod
    def _is_not_too_long(cls, window: str) -> str:
        if _seconds(window) > _LONGEST_WINDOW:
            raise ValueError("at most 30d")
        return window

    @property
    def seconds(self) -> float:
        return _seconds(self.completion_window)


def _seconds(window: str) -> int:
    return int(window[:-1]) * _SECONDS[window[-1]]


class BatchFault(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class BatchFaults(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchFault]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class BatchUsage(BaseModel):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int] = {"cached_tokens": 0}
    output_tokens_details: dict[str, int] = {"reasoning_tokens": 0}


class Spent(BaseModel):
    """`usd` without the answers whose price nobody knows, of which there are `unpriced`."""

    calls: int
    usd: float
    unpriced: int


class BatchExtra(BaseModel):
    max_usd: float | None
    max_calls: int | None
    estimate: Estimate | None
    spent: Spent


class BatchObject(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int | None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    eot: BatchExtra


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class EstimateRequest(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    input_file_id: str = Field(max_length=200)
    endpoint: str = Field(max_length=200)


class EstimateObject(BaseModel):
    """What a file would take as a batch, or what is wrong with it."""

    object: Literal["batch.estimate"] = "batch.estimate"
    requests: int
    errors: BatchFaults | None
    estimate: Estimate


def batch_object(batch: Batch, counts: Counts) -> BatchObject:
    """`counts` are those of the items while they are there, else those of the row."""
    stamps: dict[str, Any] = {f"{name}_at": int(batch.at[name]) for name in _STAMPS if name in batch.at}
    tokens = counts.input_tokens, counts.output_tokens
    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        errors=faults(batch.errors),
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=int(batch.created),
        expires_at=None if batch.expires is None else int(batch.expires),
        **stamps,
        request_counts=RequestCounts(total=counts.total, completed=counts.completed, failed=counts.failed),
        usage=BatchUsage(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens)),
        metadata=dict(batch.metadata) or None,
        eot=BatchExtra(
            max_usd=batch.max_usd,
            max_calls=batch.max_calls,
            estimate=batch.estimate,
            spent=Spent(calls=counts.calls, usd=counts.usd, unpriced=counts.unpriced),
        ),
    )


def faults(found: Any) -> BatchFaults | None:
    data = [BatchFault(**fault.model_dump()) for fault in found]
    return BatchFaults(data=data) if data else None
