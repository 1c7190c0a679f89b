"""A batch's output file and error file: one line for every custom_id, in one of the two."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator

from api.store import Batch, Counts, File, Store

_PAGE = 200


async def write_files(store: Store, batch: Batch, counts: Counts) -> dict[str, str]:
    """Write those of the two that have lines, in the order of the input; return their ids by the batch's field.

    Every call writes files of its own: two processes that end one batch do not write over each other.
    """
    files = {}
    if counts.completed:
        files["output_file_id"] = await _write(store, batch, "output", ok=True)
    if counts.failed:
        files["error_file_id"] = await _write(store, batch, "error", ok=False)
    return files


async def _write(store: Store, batch: Batch, what: str, *, ok: bool) -> str:
    name = f"{batch.id}_{what}.jsonl"
    file = File(id=f"file-{uuid.uuid4().hex}", owner=batch.owner, filename=name, purpose="batch_output")
    return (await store.files.write(file, _lines(store, batch.id, ok=ok))).id


async def _lines(store: Store, batch: str, *, ok: bool) -> AsyncIterator[bytes]:
    after = 0
    while page := await store.items.outcomes(batch, after, _PAGE):
        after = page[-1][0].line
        yield "".join(
            f'{{"id": "batch_req_{batch.removeprefix("batch_")}_{outcome.line}", '
            f'"custom_id": {json.dumps(name, ensure_ascii=False)}, {outcome.body[1:]}\n'
            for outcome, name in page
            if outcome.ok == ok
        ).encode()
