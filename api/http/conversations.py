"""`/v1/conversations`: what the page's history is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field, StringConstraints

from api.exports import as_json, as_markdown
from api.http.errors import ErrorEnvelope
from api.http.run_types import AskedQuestion, InlineCouncil
from api.http.service import Owner, Serving
from api.http.types import Exact
from api.store import Asked, Conversation
from api.threads import Threads

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], responses={404: {"model": ErrorEnvelope}})

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class ConversationSummary(BaseModel):
    """A conversation in a list."""

    id: str
    object: Literal["conversation"] = "conversation"
    title: str
    created: float
    updated: float


class ListedConversation(ConversationSummary):
    found: str = ""
    """Of a search: the words where they stand in a question or an answer; empty where the title has them."""


class ConversationObject(ConversationSummary):
    asked: tuple[Asked, ...]


class ConversationList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ListedConversation]
    has_more: bool


class NewConversation(Exact):
    title: Annotated[str, Field(max_length=200)] = ""
    """Empty: the first question's first words, as soon as there is one."""


class Renamed(Exact):
    title: Title


class BeginRequest(Exact):
    """A new `question` after the answer of the run `parent` (none: a first one), or one of before (`asked`) again."""

    asked: str | None = None
    parent: str | None = None
    question: AskedQuestion | None = None
    gold: Annotated[str, Field(max_length=10_000)] = ""
    council: str | InlineCouncil = "default"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Begun(BaseModel):
    run: str
    conversation: ConversationObject


class Deleted(BaseModel):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True


def _threads(service: Serving, owner: Owner) -> Threads:
    return Threads(service.store, service.native, owner)


Mine = Annotated[Threads, Depends(_threads)]


@router.post("", status_code=201)
async def create_conversation(body: NewConversation, threads: Mine) -> ConversationObject:
    return _object(await threads.create(body.title))


@router.get("")
async def list_conversations(
    threads: Mine,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=200)] = None,
    q: Annotated[str, Query(max_length=200, description="Words of a title, a question or an answer.")] = "",
) -> ConversationList:
    """Conversations, newest first, those after the id `after`."""
    rows = await threads.search(q, limit + 1, after)
    data = [ListedConversation(**_shown(row), found=found) for row, found in rows[:limit]]
    return ConversationList(data=data, has_more=len(rows) > limit)


@router.get("/{conversation_id}")
async def get_conversation(conversation_id: str, threads: Mine) -> ConversationObject:
    return _object(await threads.load(conversation_id))


@router.patch("/{conversation_id}")
async def rename_conversation(conversation_id: str, body: Renamed, threads: Mine) -> ConversationObject:
    return _object(await threads.rename(conversation_id, body.title))


@router.delete("/{conversation_id}")
async def delete_conversation(conversation_id: str, threads: Mine) -> Deleted:
    """Delete it and its runs; those under way are stopped."""
    await threads.delete(conversation_id)
    return Deleted(id=conversation_id)


@router.post("/{conversation_id}/runs", status_code=202, responses={429: {"model": ErrorEnvelope}})
async def begin_conversation_run(conversation_id: str, body: BeginRequest, threads: Mine, service: Serving) -> Begun:
    """Ask within a conversation: what was said before goes along. `/v1/runs/{run}/events` tells how it goes."""
    service.refuse_when_draining()
    run, row = await threads.begin(conversation_id, **{name: getattr(body, name) for name in BeginRequest.model_fields})
    return Begun(run=run.id, conversation=_object(row))


@router.get("/{conversation_id}/export", response_class=Response)
async def export_conversation(
    conversation_id: str,
    threads: Mine,
    format: Literal["json", "markdown"] = "json",  # noqa: A002 - a query
) -> Response:
    """All that is kept of it, as a file."""
    row = await threads.load(conversation_id)
    runs = await threads.runs(row)
    name = f'attachment; filename="{row.id}.{"json" if format == "json" else "md"}"'
    headers = {"content-disposition": name, "x-content-type-options": "nosniff"}
    if format == "json":
        return JSONResponse(as_json(row, runs), headers=headers)
    return PlainTextResponse(as_markdown(row, runs), media_type="text/markdown", headers=headers)


def _object(row: Conversation) -> ConversationObject:
    return ConversationObject(**_shown(row), asked=row.asked)


def _shown(row: Conversation) -> dict[str, Any]:
    return {"id": row.id, "title": row.title, "created": row.created, "updated": row.updated}
