"""What every benchmark prints: a table for people, or with `--json` one object for machines."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser that knows `--json`; a benchmark adds its own flags to it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help='print one object {"figures", "machine", "commit"}')
    return parser


def report(title: str, figures: Mapping[str, float], notes: Iterable[str] = (), *, as_json: bool = False) -> None:
    """Print the figures. A figure's name says its unit (`vote_ms`, `help_s`); notes say how it was measured."""
    if as_json:
        print(json.dumps({"figures": dict(figures), "machine": machine(), "commit": commit()}))
        return
    width = max(map(len, figures), default=0)
    print(title)
    for name, value in figures.items():
        print(f"  {name:<{width}}  {value:>14,.6g}")
    for note in notes:
        print(f"  {note}")
    print(f"  {machine()}, commit {commit()}")


def in_turns(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median wall seconds of each run, taken in turns so that a busy moment of the machine hits all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def machine() -> str:
    """The processor, how many cores this process may use, the system and the Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def commit() -> str:
    """The short commit of the checkout, with "+changes" where files differ from it, or "unknown"."""
    here = Path(__file__).parent
    try:
        name = _git(here, "rev-parse", "--short", "HEAD")
        return name + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    asked = ["git", "-C", str(folder), *words]
    return subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip()
