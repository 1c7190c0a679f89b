"""How long `eot --help` takes, as a whole process, beside a Python that only starts; in turns, medians."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from report import arguments, in_turns, report

EOT = Path(sys.executable).with_name("eot")
REPEATS = 15


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    commands = {"help_s": [str(EOT), "--help"], "python_s": [sys.executable, "-c", "pass"]}
    subprocess.run(commands["help_s"], check=True, capture_output=True)
    runs = {
        name: lambda command=command: subprocess.run(command, check=True, capture_output=True)  # type: ignore[misc]
        for name, command in commands.items()
    }
    report("Start of the command line", in_turns(runs, REPEATS), as_json=options.json)


if __name__ == "__main__":
    main()
