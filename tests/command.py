"""The command line as a user runs it: another process, in a folder of its own, without this user's settings."""

import os
import subprocess
import sys
from pathlib import Path

EOT = Path(sys.executable).with_name("eot")


def environment(home, **more):
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("EOT_") and not key.endswith("_API_KEY")
    }
    return kept | {"EOT_HOME": str(home), "COLUMNS": "100", "NO_COLOR": "1"} | more


def eot(folder, *words, stdin="", timeout=120, **more):
    """Run `eot` in `folder`; what it printed and its exit code."""
    return subprocess.run(
        [str(EOT), *words],
        cwd=folder,
        env=environment(folder / "home", **more),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def scripted(folder, **scripts):
    """An eot.toml in `folder` with a scripted agent for each name, all in the default council."""
    lines = []
    for name, script in scripts.items():
        lines += [f"[agents.{name}]", 'model = "scripted"', f"script = {list(script)!r}", "retries = 0"]
    lines += ["[councils.default]", f"agents = {list(scripts)!r}"]
    (folder / "eot.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
