"""What `eot batch` does: run a file here or on a server, say how far batches are, cancel one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from api.batch_here import BusyError, Here, all_here, ask_to_cancel, batch_id, folder_of, look_at
from api.batch_rows import answer_rows, endpoint_of, request_lines
from api.batch_there import There
from api.batch_view import estimated, print_batches, progress
from api.defaults import with_defaults
from api.http.batch_types import BatchObject, EstimateObject, faults
from api.stocking import bring_for
from api.store import ENDED
from eot.errors import AnswersError, BudgetError, EotError, InputError, UnknownNameError
from eot.settings import Settings, load

_LOOK = 0.3


@dataclass(frozen=True)
class Wanted:
    """A batch as it was typed."""

    file: Path
    council: str
    out: Path
    caps: Mapping[str, Any]
    at_once: int
    server: str | None
    key: str | None
    config: Path | None


def run_batch(wanted: Wanted, *, estimate: bool, as_json: bool) -> None:
    """Answer every line of a file; or say what that would take.

    Raises:
        AnswersError: a line cannot be asked; names file and line.
        BudgetError: a cap was reached; the answers until then were written.
        EotError: no line could be answered.
    """
    logging.basicConfig(level=logging.ERROR)
    settings = with_defaults(load(wanted.config))
    endpoint = endpoint_of(wanted.file)
    if wanted.server is None:
        _bring_weights(wanted, settings, endpoint)
    if estimate:
        found = asyncio.run(_estimate(wanted, settings, endpoint))
        sys.stdout.write(found.model_dump_json() + "\n" if as_json else estimated(found))
        return
    try:
        ended = asyncio.run(_run(wanted, settings, endpoint))
    except KeyboardInterrupt:
        raise EotError("stopped; the same command goes on where it was") from None
    if as_json:
        sys.stdout.write(ended.model_dump_json() + "\n")
    else:
        print_batches([ended])
        if ended.status != "failed":
            sys.stdout.write(f"answers: {wanted.out}\n")
    _raise_what_went_wrong(ended, wanted.file)


def _bring_weights(wanted: Wanted, settings: Settings, endpoint: str) -> None:
    if endpoint == "/v1/runs" and wanted.council not in settings.councils:
        raise UnknownNameError("council", wanted.council, settings.councils)
    names = [wanted.council] if endpoint == "/v1/runs" else settings.councils
    for name in names:
        bring_for(settings.councils[name], settings)


def _raise_what_went_wrong(ended: BatchObject, file: Path) -> None:
    if ended.errors:
        raise AnswersError("\n".join(f"{file}, {fault.message}" for fault in ended.errors.data[:10]))
    if ended.status == "cancelled":
        raise EotError("the batch was cancelled; the same command begins it anew, and pays only for what is missing")
    spent, caps = ended.eot.spent, ended.eot
    capped = (caps.max_usd or 1e99) <= spent.usd or (caps.max_calls or 1e99) <= spent.calls
    if ended.request_counts.failed and (capped or caps.max_calls):
        raise BudgetError("a cap was reached; the same command with a higher one goes on")
    if not ended.request_counts.completed:
        raise EotError("every request failed; the answers say why")


async def _estimate(wanted: Wanted, settings: Settings, endpoint: str) -> EstimateObject:
    if wanted.server:
        async with There(wanted.server, wanted.key, settings.home / "batches") as there:
            return await there.estimate(wanted.file.name, request_lines(wanted.file, wanted.council), endpoint)
    id_ = batch_id(request_lines(wanted.file, wanted.council), settings)
    async with Here(id_, settings) as here:
        found = await here.scanned(request_lines(wanted.file, wanted.council), endpoint)
    return EstimateObject(requests=found.items, errors=faults(found.faults), estimate=found.estimate)


async def _run(wanted: Wanted, settings: Settings, endpoint: str) -> BatchObject:
    content = [request_lines(wanted.file, wanted.council) for _ in range(2)]
    if wanted.server:
        async with There(wanted.server, wanted.key, settings.home / "batches") as there:
            caps = {name: value for name, value in wanted.caps.items() if value is not None}
            asked = {"endpoint": endpoint, "eot": caps or None}
            await there.begin(wanted.file.name, content[0], content[1], asked)
            return await _followed(there, wanted, endpoint)
    async with Here(batch_id(content[0], settings), settings, wanted.at_once) as here:
        await here.begin(wanted.file.name, content[1], endpoint, **wanted.caps)
        return await _followed(here, wanted, endpoint)


async def _followed(batch: Here | There, wanted: Wanted, endpoint: str) -> BatchObject:
    """Show its progress until it has ended, then write its answers."""
    with progress(batch.id) as show:
        while (now := await batch.look()).status not in ENDED:
            show(now)
            await asyncio.sleep(_LOOK)
        show(now)
    if now.status != "failed":
        with _whole(wanted.out) as path:
            await _write(path, batch, now, endpoint)
    return now


async def _write(path: Path, batch: Here | There, ended: BatchObject, endpoint: str) -> None:
    """The lines of both files, merged on disk: neither need fit into memory."""
    parts = [path.with_name(f"{path.name}.{name}") for name in ("output", "errors")]
    try:
        for part, file in zip(parts, (ended.output_file_id, ended.error_file_id), strict=True):
            await _copy(batch.lines(file), part)
        with ExitStack() as stack:
            output, errors = (stack.enter_context(part.open(encoding="utf-8")) for part in parts)
            out = stack.enter_context(path.open("w", encoding="utf-8"))
            for row in answer_rows(output, errors, endpoint):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


async def _copy(lines: AsyncIterator[str], path: Path) -> None:
    with path.open("w", encoding="utf-8") as part:
        async for line in lines:
            part.write(line + "\n")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of `path` when all went well."""
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as made:
            pass
    except OSError as fault:
        raise InputError(f"--out: {path} cannot be written: {fault.strerror}") from fault
    try:
        yield Path(made.name)
        Path(made.name).replace(path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(made.name)  # noqa: PTH108 - as it was made


def show_status(batch: str | None, server: str | None, key: str | None, config: Path | None, *, as_json: bool) -> None:
    settings = with_defaults(load(config))
    found = asyncio.run(_looked(batch, server, key, settings))
    if as_json:
        sys.stdout.write(json.dumps([one.model_dump(mode="json") for one in found]) + "\n")
    else:
        print_batches(found)


async def _looked(batch: str | None, server: str | None, key: str | None, settings: Settings) -> list[BatchObject]:
    if server:
        async with There(server, key, settings.home / "batches") as there:
            if batch is None:
                return await there.all()
            there.id = batch
            return [await there.look()]
    if batch is None:
        return await all_here(settings)
    found = await look_at(folder_of(batch, settings) / "eot.sqlite")
    return [found] if found else []


def cancel_batch(batch: str, server: str | None, key: str | None, config: Path | None, *, as_json: bool) -> None:
    settings = with_defaults(load(config))
    ended = asyncio.run(_cancel(batch, server, key, settings))
    if as_json:
        sys.stdout.write(ended.model_dump_json() + "\n")
    else:
        print_batches([ended])


async def _cancel(batch: str, server: str | None, key: str | None, settings: Settings) -> BatchObject:
    if server:
        async with There(server, key, settings.home / "batches") as there:
            there.id = batch
            return await there.cancel()
    folder = folder_of(batch, settings)
    try:
        async with Here(batch, settings) as here:
            return await here.cancel()
    except BusyError:  # the process that has it in work ends it
        await ask_to_cancel(batch, settings)
        found = await look_at(folder / "eot.sqlite")
        assert found is not None
        return found
