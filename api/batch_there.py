"""A batch that a server works on: brought, begun, followed and fetched over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import ValidationError

from api.http.batch_types import BatchObject, EstimateObject
from eot.errors import EotError, InputError

_PATIENCE = 60.0
_TRIES = 5


class There:
    """One server. Which batch a file became is noted under `notes`, so that the same command finds it again."""

    def __init__(self, server: str, key: str | None, notes: Path) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(base_url=server.rstrip("/"), headers=headers, timeout=_PATIENCE)
        self._server, self._notes = server.rstrip("/"), notes
        self.id = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def estimate(self, name: str, content: Iterator[bytes], endpoint: str) -> EstimateObject:
        asked = {"input_file_id": await self._bring(name, content), "endpoint": endpoint}
        found = await self._call("POST", "/v1/batches/estimate", json=asked)
        await self._call("DELETE", f"/v1/files/{asked['input_file_id']}")
        return EstimateObject.model_validate(found)

    async def begin(
        self, name: str, content: Iterator[bytes], again: Iterator[bytes], asked: Mapping[str, Any]
    ) -> None:
        """Bring the file and begin, unless this very command has begun it there before and it was not cancelled.

        `content` and `again` are the same lines, which are read twice.
        """
        digest = hashlib.sha256(json.dumps([self._server, dict(asked)], sort_keys=True).encode())
        for line in content:
            digest.update(line)
        note = self._notes / f"{digest.hexdigest()[:32]}.json"
        if note.exists():
            self.id = json.loads(note.read_text(encoding="utf-8"))["batch"]
            if (await self._status()) not in (None, "cancelled", "expired", "failed"):
                return
        file = await self._bring(name, again)
        made = await self._call("POST", "/v1/batches", json={"input_file_id": file, "completion_window": "7d", **asked})
        self.id = made["id"]
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"server": self._server, "batch": self.id}), encoding="utf-8")

    async def _status(self) -> str | None:
        response = await self._answered("GET", f"/v1/batches/{self.id}")
        return None if response.status_code == 404 else str(_read(response)["status"])

    async def look(self) -> BatchObject:
        """How far it is. A server that restarts is waited for: the batch is in its store."""
        return _batch(_read(await self._answered("GET", f"/v1/batches/{self.id}", tries=_TRIES)))

    async def all(self) -> list[BatchObject]:
        return [_batch(one) for one in (await self._call("GET", "/v1/batches?limit=100"))["data"]]

    async def cancel(self) -> BatchObject:
        return _batch(await self._call("POST", f"/v1/batches/{self.id}/cancel"))

    async def lines(self, file: str | None) -> AsyncIterator[str]:
        if file is None:
            return
        async with self._client.stream("GET", f"/v1/files/{file}/content") as response:
            if response.status_code != 200:
                await response.aread()
                _read(response)
            async for line in response.aiter_lines():
                yield line

    async def _bring(self, name: str, content: Iterator[bytes]) -> str:
        with TemporaryFile() as file:
            for line in content:
                file.write(line)
            file.seek(0)
            brought = await self._call("POST", "/v1/files", files={"file": (name, file)}, data={"purpose": "batch"})
        return str(brought["id"])

    async def _call(self, method: str, path: str, **more: Any) -> Any:
        return _read(await self._answered(method, path, **more))

    async def _answered(self, method: str, path: str, tries: int = 1, **more: Any) -> httpx.Response:
        for attempt in range(tries):
            await asyncio.sleep(2**attempt if attempt else 0)
            try:
                response = await self._client.request(method, path, **more)
            except httpx.HTTPError as fault:
                gone = EotError(f"{self._server} cannot be reached: {type(fault).__name__}")
                continue
            except httpx.InvalidURL as fault:
                raise InputError(f"--server: {fault}; write http://HOST:PORT") from fault
            if response.status_code not in (502, 503, 504) or attempt == tries - 1:
                return response
        raise gone


def _batch(found: Any) -> BatchObject:
    try:
        return BatchObject.model_validate(found)
    except ValidationError as fault:
        raise EotError("the server's batches are not eot's; bring the file to it with OpenAI's own client") from fault


def _read(response: httpx.Response) -> Any:
    try:
        found = response.json()
    except ValueError:
        found = {}
    if response.status_code >= 400:
        said = found.get("error", {}).get("message") if isinstance(found, dict) else None
        raise InputError(f"the server answered {response.status_code}: {said or response.text[:200]}")
    return found
