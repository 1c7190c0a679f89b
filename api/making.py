"""Jobs that make models: commands in processes of their own, one at a time, watched until they end.

The server only begins, follows and ends them; whatever torch does, it does elsewhere. A process goes on when the
server goes, and the next server finds it by its folder; what had ended by then is told as it ended.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from api.child import PROGRESS, Child
from api.http.errors import ApiError
from api.store import STORE_FAULTS, File, Making, Store
from eot.errors import InputError
from local_models import place_for

_log = logging.getLogger(__name__)
_LOOK = 0.5
"""Seconds between two looks at a process and at its row: that soon it is told how far it is, or is ended."""
_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_OVER = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Order:
    """What is to be made. `words` follow `eot`; `files` are brought files, each with the option that is to name it.

    An option that ends in = is joined with its file.

    `kind` and `action` are words of closed sets: they label a metric. `request` is what was asked, for whoever lists.
    """

    kind: str
    action: str
    words: tuple[str, ...]
    request: Mapping[str, Any]
    files: Sequence[tuple[str, File]] = ()
    model: str = ""


class Makings:
    """Every one of this machine. `ended` is told (kind, action, outcome) of each."""

    def __init__(self, store: Store, home: Path, ended: Callable[[str, str, str], None]) -> None:
        self._store, self._rows, self._home, self._ended = store, store.makings, home, ended
        self._folder = home / "makings"
        self._turn = asyncio.Lock()
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._taken = set[str]()  # names of models whose jobs are being taken in

    def __len__(self) -> int:
        return len(self._followed)

    async def open(self) -> None:
        """Follow what an earlier server left; what had come to its end by then leaves nothing behind."""
        left: list[Making] = []
        for folder in self._folder.glob("job_*"):
            row = await _patiently(partial(self._rows.load, folder.name))
            if row and row.status not in _OVER:
                left.append(row)
            elif Child(folder).alive:
                self._follow(folder.name)  # to end it: its server went while it did
            else:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        for row in sorted(left, key=lambda row: (row.status == "queued", row.created)):
            self._follow(row.id)

    async def close(self) -> None:
        """Follow no longer. What is under way goes on by itself."""
        if self._followed:
            _log.warning("%d model jobs go on without the server; the next one finds them", len(self._followed))
        for task in self._followed.values():
            task.cancel()
        await asyncio.gather(*self._followed.values(), return_exceptions=True)

    async def begin(self, order: Order, owner: str) -> Making:
        """Take it in. It starts when those before it have ended.

        Raises:
            InputError: its model's name cannot be used, or is taken.
            ApiError: 409, another job is making that model; 507, the disk has no room for its files.
        """
        if order.model in self._taken:
            raise ApiError(409, f"another job is making {order.model}", param="model_name", code="name_taken")
        self._taken |= {order.model} - {""}
        try:
            return await self._take_in(order, owner)
        finally:
            self._taken -= {order.model}

    async def _take_in(self, order: Order, owner: str) -> Making:
        await self._refuse_taken(order.model)
        row = Making(
            id=f"job_{uuid.uuid4().hex}",
            owner=owner,
            kind=order.kind,
            action=order.action,
            model=order.model,
            request=order.request,
        )
        folder = self._folder / row.id
        words = [*order.words, "--json", "--progress", str(folder / PROGRESS)]
        try:
            folder.mkdir(parents=True)
            for at, (option, file) in enumerate(order.files):
                path = str(await self._brought(file, folder / f"input-{at}"))
                words += [option + path] if option.endswith("=") else [option, path]
        except OSError as fault:
            shutil.rmtree(folder, ignore_errors=True)
            raise ApiError(507, f"the job's files cannot be kept: {fault.strerror}", code="disk_full") from fault
        row = row.model_copy(update={"words": tuple(words)})
        await self._rows.save(row)
        self._follow(row.id)
        return row

    async def cancel(self, id_: str) -> Making | None:
        """End it, wherever it is followed; None where there is nothing to end. One that waits goes at once."""
        row = await self._rows.change(id_, partial(_over, status="cancelled"))
        folder, task = self._folder / id_, self._followed.get(id_)
        if row and task and not Child(folder).begun:
            task.cancel()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            self._ended(row.kind, row.action, row.status)
        return row

    async def _refuse_taken(self, model: str) -> None:
        if not model:
            return
        try:
            place_for(model, self._home)
        except InputError as fault:
            raise ApiError(400, str(fault), param="model_name", code="name_taken") from fault
        rows = [await self._rows.load(id_) for id_ in self._followed]
        if any(row and row.model == model and row.status not in _OVER for row in rows):
            raise ApiError(409, f"another job is making {model}", param="model_name", code="name_taken")

    async def _brought(self, file: File, place: Path) -> Path:
        """As a file whose name begins as `place` does, and goes on as the brought one's: a lineage names it."""
        stem, _, ending = file.filename.lower().rpartition(".")
        safe = _UNSAFE.sub("_", stem or ending)[:40]
        place = place.with_name(f"{place.name}-{safe}{'.jsonl' if ending in ('json', 'jsonl') else '.txt'}")
        await _written(place, self._store.files.read(file.id))
        return place

    def _follow(self, id_: str) -> None:
        self._followed[id_] = task = asyncio.create_task(self._followed_to_its_end(id_))
        task.add_done_callback(lambda _: self._followed.pop(id_, None))

    async def _followed_to_its_end(self, id_: str) -> None:
        child = Child(self._folder / id_)
        try:
            await self._attend(id_, child)
        finally:
            child.leave()
        await asyncio.to_thread(shutil.rmtree, child.folder, ignore_errors=True)

    async def _attend(self, id_: str, child: Child) -> None:
        async with self._turn:
            row = await _patiently(partial(self._rows.change, id_, _begun))
            if row and not child.begun:
                with suppress(FileExistsError):  # another server of this home was quicker
                    child.begin(row.words, self._home)
            while row and child.alive:
                await asyncio.sleep(_LOOK)
                row = await _patiently(partial(self._rows.change, id_, partial(_told, progress=child.progress)))
            if child.alive:
                await child.stop()
        await _patiently(partial(self._rows.change, id_, partial(_judged, child=child, home=self._home)))
        if row := await _patiently(partial(self._rows.load, id_)):
            self._ended(row.kind, row.action, row.status)


def _begun(row: Making) -> Making | None:
    if row.status in _OVER:
        return None
    return row.model_copy(update={"status": "running", "begun": row.begun or time.time()})


def _told(row: Making, progress: Mapping[str, Any] | None) -> Making | None:
    return None if row.status in _OVER else row.model_copy(update={"progress": progress or row.progress})


def _over(row: Making, status: str, **more: Any) -> Making | None:
    if row.status in _OVER:
        return None
    return row.model_copy(update={"status": status, "ended": time.time(), **more})


def _judged(row: Making, child: Child, home: Path) -> Making | None:
    told = child.progress or row.progress
    if (result := child.result) is not None:
        said = {key: _placeless(value, home) if isinstance(value, str) else value for key, value in result.items()}
        return _over(row, "completed", result=said, progress=told)
    return _over(row, "failed", error=_placeless(child.fault.replace(f"{child.folder}/", ""), home), progress=told)


def _placeless(text: str, home: Path) -> str:
    """Without where the home lies: whoever asks over the network names nothing by its path."""
    return text.replace(f"{home}/", "")


async def _patiently(step: Callable[[], Any]) -> Any:
    """Do it as soon as the store answers: a job is not lost because the store was away."""
    while True:
        try:
            return await step()
        except STORE_FAULTS as fault:
            _log.warning("a model job waits for the store: %s", type(fault).__name__)
            await asyncio.sleep(1)


async def _written(place: Path, chunks: AsyncIterator[bytes]) -> None:
    with place.open("wb") as file:
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
