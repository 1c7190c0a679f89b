"""`/v1/files`: OpenAI's files, for the input and the output of batches."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.http.errors import ApiError, ErrorEnvelope
from api.http.service import Owner, Serving
from api.service import Service
from api.store import File
from eot.text import clean, fault_in

router = APIRouter(prefix="/v1/files", tags=["files"])
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorEnvelope}}
_CHUNK = 1 << 18
_LONGEST_NAME = 200


class FileObject(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


@router.post("", responses={413: {"model": ErrorEnvelope}})
async def create_file(
    file: UploadFile,
    purpose: Annotated[str, Form(pattern="^[a-z_]{1,40}$")],
    service: Serving,
    owner: Owner,
) -> FileObject:
    """Bring a file: JSON lines of requests with the purpose `batch`."""
    name = clean(file.filename or "")[:_LONGEST_NAME] or "file"
    row = File(id=f"file-{uuid.uuid4().hex}", owner=owner, filename=name, purpose=purpose)
    return file_object(await service.store.files.write(row, _chunks(file)))


@router.get("")
async def list_files(
    service: Serving,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    after: Annotated[str | None, Query(max_length=200)] = None,
    purpose: Annotated[str | None, Query(max_length=40)] = None,
) -> FileList:
    """Files, newest first, those after the id `after`."""
    found: list[File] = []
    while len(found) <= limit and (rows := await service.store.files.page(owner, min(limit, 500) + 1, after)):
        found += [row for row in rows if purpose in (None, row.purpose)]
        after = rows[-1].id
    data = [file_object(row) for row in found[:limit]]
    return FileList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(found) > limit,
    )


@router.get("/{file_id}", responses=_NOT_FOUND)
async def get_file(file_id: str, service: Serving, owner: Owner) -> FileObject:
    """A file's description."""
    return file_object(await owned_file(service, file_id, owner))


@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, **_NOT_FOUND},
)
async def get_content(file_id: str, service: Serving, owner: Owner) -> StreamingResponse:
    """A file's bytes."""
    file = await owned_file(service, file_id, owner)
    headers = {"content-length": str(file.size), "x-content-type-options": "nosniff"}
    return StreamingResponse(service.store.files.read(file.id), media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}", responses=_NOT_FOUND)
async def delete_file(file_id: str, service: Serving, owner: Owner) -> FileDeleted:
    """Delete a file. A batch that was validated goes on: it has its requests by then."""
    file = await owned_file(service, file_id, owner)
    await service.store.files.delete(file.id)
    return FileDeleted(id=file.id)


def file_object(file: File) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.size,
        created_at=int(file.created),
        expires_at=None if file.expires is None else int(file.expires),
        filename=file.filename,
        purpose=file.purpose,
    )


async def owned_file(service: Service, file_id: str, owner: str, param: str = "file_id") -> File:
    """The caller's own file.

    Raises:
        ApiError: 404, there is none; somebody else's is not there either.
    """
    file = None if fault_in(file_id) else await service.store.files.load(file_id)
    if file is None or file.owner != owner:
        raise ApiError(404, "there is no such file", param=param, code="not_found")
    return file


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK):
        yield chunk
