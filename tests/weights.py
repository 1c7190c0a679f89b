"""Where tests find real weights; they are pulled once, with `eot models pull`."""

import os
from pathlib import Path

import pytest

from local_models import on_disk

HOME = Path(os.environ.get("EOT_HOME") or Path.home() / ".cache" / "eot")


def weights(name):
    """The path of a catalogue model on this machine, or a skip that says how to bring it."""
    return on_disk(name, HOME) or pytest.skip(f"no weights of {name}; run: eot models pull {name}")
