"""An `eot` command in a process of its own, which outlives whoever began it.

All that is known of it lies in its folder: `pid`, `out` (one JSON object at its end), `err`, `progress` (JSON lines)
and `alive`, a lock that it holds while it lives. So a server that was started again finds it, and no number of
another's process is ever taken for its.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from eot.text import clean

_MAIN = "import os; open('pid', 'w').write(str(os.getpid())); from api.cli import main; main()"
_NICENESS = 10
"""A server that answers goes before what may take hours."""
_PATIENCE = 10.0
"""Seconds from SIGTERM to SIGKILL."""
_LOOK = 0.05
_TAIL = 8_192
PROGRESS = "progress"
_SECRET = re.compile("^EOT_|(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?(_|$)", re.IGNORECASE)
"""An agent's `api_key_env` may have any name: whatever sounds like a secret is not handed on."""


class Child:
    """The command whose folder this is; `begin` starts it, unless it lives already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, words: Sequence[str], home: Path) -> None:
        """Start `eot WORDS` in a session of its own; it is told the home, and no other setting or secret of ours.

        Raises:
            FileExistsError: it was begun already.
        """
        kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        with (
            (self.folder / "alive").open("x") as alive,
            (self.folder / "out").open("wb") as out,
            (self.folder / "err").open("wb") as err,
        ):
            fcntl.flock(alive, fcntl.LOCK_EX)
            self._process = subprocess.Popen(  # noqa: S603 - no shell; every word comes from a validated order
                [sys.executable, "-P", "-c", _MAIN, *words],
                cwd=self.folder,
                env=kept | {"EOT_HOME": str(home), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=[alive.fileno()],  # the lock is theirs once ours is closed
                start_new_session=True,
            )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)

    @property
    def begun(self) -> bool:
        return (self.folder / "alive").exists()

    @property
    def alive(self) -> bool:
        """Whether it, or anything that it started and that holds its lock, still lives."""
        if self._process and self._process.poll() is not None:
            return False
        try:
            with (self.folder / "alive").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    async def stop(self) -> None:
        """End it and all that it started: asked first, then made to."""
        for sign, patience in ((signal.SIGTERM, _PATIENCE), (signal.SIGKILL, _PATIENCE)):
            with suppress(ProcessLookupError, ValueError, FileNotFoundError):
                os.killpg(self._pid(), sign)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    while self.alive:  # noqa: ASYNC110 - it need not be our child, so nothing tells of its end
                        await asyncio.sleep(_LOOK)
                    return

    def leave(self) -> None:
        """Let it go on without us."""
        if self._process and self._process.poll() is None:
            self._process.returncode = 0  # else Popen warns, when it goes, that the process still runs: it shall

    def _pid(self) -> int:
        return self._process.pid if self._process else int((self.folder / "pid").read_text(encoding="ascii"))

    @property
    def progress(self) -> Mapping[str, Any] | None:
        """The last whole line that it told."""
        for line in reversed(_tail(self.folder / PROGRESS).split(b"\n")[:-1]):
            with suppress(ValueError):
                told = json.loads(line)
                return told if isinstance(told, dict) else None
        return None

    @property
    def result(self) -> Mapping[str, Any] | None:
        """What it printed, if it did its work."""
        if self._process and self._process.poll():
            return None
        try:
            found = json.loads((self.folder / "out").read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def fault(self) -> str:
        """Why it did not do its work, in its own words where it had any."""
        lines = _tail(self.folder / "err").decode(errors="replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        if said:
            return clean(said[-1])
        code = self._process.poll() if self._process else None
        if code is not None and code < 0:
            return f"the process was ended by signal {-code}: memory may have run out"
        last = clean(lines[-1]) if lines else "it said nothing"
        return f"the process ended without a result: {last}"


def _tail(file: Path) -> bytes:
    """The file's last bytes. A line that was cut at their beginning is no JSON, and is passed over."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL))
            return opened.read()
    except FileNotFoundError:
        return b""
