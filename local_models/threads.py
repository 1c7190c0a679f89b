"""How many threads a local engine takes when nobody says."""

from __future__ import annotations

import os
from pathlib import Path

MOST = 16
"""Decoding is bound by memory: past this, more threads wait on each other."""


def default_threads() -> int:
    """Physical cores that this process may use: a core's second thread slows decoding down. At least 1."""
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(), MOST))


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
