"""How a long command tells how far it is: lines of JSON in a file, for whoever began it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Tell = Callable[[Mapping[str, Any]], None]


def teller(file: Path | None) -> Tell:
    """Appends each thing that it is told as one line; to no file, nothing."""

    def tell(what: Mapping[str, Any]) -> None:
        if file is not None:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(what, ensure_ascii=False) + "\n")

    return tell
