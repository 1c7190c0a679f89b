"""How many threads a local engine takes when nobody says."""

from __future__ import annotations

import os
import time
from pathlib import Path

MOST = 16
"""Decoding is bound by memory: past this, more threads wait on each other."""


def default_threads() -> int:
    """Physical cores that this process may use, less those that others keep busy at this moment. At least 1.

    A core's second thread slows decoding down; and threads that share a core with another process make all the
    others wait at every layer: on two cores, two threads beside one busy process are slower than one.
    Blocks for a tenth of a second.
    """
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(), MOST) - _busy(0.1))


def _busy(seconds: float) -> int:
    """How many cores were at work over the next `seconds`, rounded."""
    try:
        work, wait = _ticks()
        time.sleep(seconds)
        work_then, wait_then = _ticks()
    except (OSError, ValueError):  # no /proc: nothing is known, so nothing is held back
        return 0
    work, wait = work_then - work, wait_then - wait
    return round((os.cpu_count() or 1) * work / max(1, work + wait))


def _ticks() -> tuple[int, int]:
    """Clock ticks of all cores since the start: at work (another machine's share of them too), and idle."""
    user, nice, system, idle, iowait, *others = map(int, Path("/proc/stat").read_text(encoding="ascii").split()[1:9])
    return user + nice + system + sum(others), idle + iowait


def _siblings(cpu: int) -> str:
    file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """CPUs that the container's control group grants, as whole ones."""
    try:
        share, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, int(share) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return MOST
