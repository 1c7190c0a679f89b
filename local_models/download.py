"""One file over HTTP, streamed, resumed from what is there, tried again when the line is cut."""

from __future__ import annotations

import errno
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx

from eot.errors import DiskFullError, WeightsError

ATTEMPTS = 6
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CONNECT_SECONDS = 5.0


class UnreachableError(WeightsError):
    """The server cannot be reached at all, or does not have the file: another source may."""


class StoppedError(WeightsError):
    """Another part of the same model failed, so this one is not wanted any more."""


def tls(certificates: str = "") -> ssl.SSLContext:
    """The system's certificates (SSL_CERT_FILE and SSL_CERT_DIR included), with `certificates` added.

    A slim image may have none at all; then those that come with the HTTP library are used.
    """
    context = ssl.create_default_context()
    folder = ssl.get_default_verify_paths().capath
    if not context.cert_store_stats()["x509_ca"] and not (folder and any(Path(folder).iterdir())):
        import certifi  # noqa: PLC0415  (needed on such images only)

        context.load_verify_locations(certifi.where())
    if certificates:
        context.load_verify_locations(certificates)
    return context


def client(certificates: str = "", proxy: str | None = None) -> httpx.Client:
    """An HTTP client for large files: it connects within seconds or says that it cannot."""
    timeout = httpx.Timeout(30.0, connect=_CONNECT_SECONDS, pool=None)
    return httpx.Client(verify=tls(certificates), proxy=proxy, timeout=timeout, follow_redirects=True)


def fetch(
    web: httpx.Client,
    url: str,
    target: Path,
    heard: Callable[[int], None],
    stop: threading.Event,
    *,
    pause: float = 0.5,
) -> Path:
    """Download `url` to `target`, resuming from `target.part` when the server knows ranges.

    `heard` is told how many bytes were gained, or a negative number when some must be fetched again. `stop` ends it.

    Raises:
        UnreachableError: no connection at the first attempt, or the server refuses the file.
        DiskFullError: no room; what came so far is kept for the next attempt.
        WeightsError: the line was cut too often without anything gained.
    """
    part = target.with_name(f"{target.name}.part")
    have = part.stat().st_size if part.exists() else 0
    heard(have)
    failures, reached = 0, False
    while True:
        before = have
        try:
            with web.stream("GET", url, headers=_wanted(have)) as answer:
                reached = True
                have = _start(answer, part, have, heard)
                have = _write(answer, part, have, heard, stop)
            return part.replace(target)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.ProxyError) as fault:
            if not reached:
                raise UnreachableError(f"{_host(url)} cannot be reached: {fault}") from fault
            problem: Exception = fault
        except (httpx.TransportError, _TryAgainError) as fault:
            problem = fault
        have = part.stat().st_size if part.exists() else 0
        failures = 1 if have > before else failures + 1
        if failures >= ATTEMPTS:
            raise WeightsError(f"{_host(url)} was cut off {ATTEMPTS} times without progress: {problem}") from problem
        stop.wait(min(10.0, pause * 2 ** (failures - 1)))


class _TryAgainError(Exception):
    """The server answered, and its answer may be another one in a moment."""


def _wanted(have: int) -> dict[str, str]:
    # identity: a Range counts bytes of the file, not of a compressed copy of it
    return {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})


def _start(answer: httpx.Response, part: Path, have: int, heard: Callable[[int], None]) -> int:
    """Return the byte at which this answer begins, with the part file cut to it."""
    status = answer.status_code
    if status == httpx.codes.PARTIAL_CONTENT and answer.headers.get("content-range", "").startswith(f"bytes {have}-"):
        return have
    if status in {httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE}:
        _forget(part, have, heard)
        raise _TryAgainError(f"the server would not go on from byte {have:,}")
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _TryAgainError(f"status {status}")
    if status != httpx.codes.OK:
        raise UnreachableError(f"{answer.url.host} answered with status {status} for {answer.url.path}")
    _forget(part, have, heard)
    return 0


def _forget(part: Path, have: int, heard: Callable[[int], None]) -> None:
    heard(-have)
    part.unlink(missing_ok=True)


def _write(answer: httpx.Response, part: Path, have: int, heard: Callable[[int], None], stop: threading.Event) -> int:
    with guarded_append(part) as file:
        for chunk in answer.iter_bytes():
            if stop.is_set():
                raise StoppedError("stopped")
            put(file, chunk, part)
            have += len(chunk)
            heard(len(chunk))
    return have


def guarded_append(path: Path) -> BinaryIO:
    try:
        return path.open("ab", buffering=0)
    except OSError as fault:
        raise as_disk_full(fault, path) from fault


def put(file: BinaryIO, data: bytes, path: Path) -> None:
    """Write all of `data`: an unbuffered file may take a part of it only, just before the disk is full."""
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as fault:
        raise as_disk_full(fault, path) from fault


def as_disk_full(fault: OSError, path: Path) -> WeightsError:
    if fault.errno in _NO_ROOM:
        return DiskFullError(
            f"no room for {path}: {fault.strerror}. What came so far is kept; free some and pull again"
        )
    return WeightsError(f"{path} cannot be written: {fault.strerror}")


def _host(url: str) -> str:
    return httpx.URL(url).host
