"""A place to train in, and the command that trains: shared by the tests of `eot models graft heal|teach|align`."""

import json

import pytest
import tiny
import torch

from api.cli import app
from local_models.grafting import build, depth_upscaled

MARKS = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft asks by the old name
]
TEXT = "".join(f"Box {n} holds {n * n} pens, and {n} more lie on the shelf.\n" for n in range(600))
HEAL = ("--corpus", "c.txt", "--length", "32", "--every", "4", "--held", "4", "--learning-rate", "0.003")


def made(folder):
    """A tiny base, a graft of it, and a corpus."""
    tiny.model(folder / "base")
    build([folder / "base"], depth_upscaled(4, 1), folder / "deep")
    (folder / "c.txt").write_text(TEXT)
    return folder


def runner(place, monkeypatch, capsys):
    """Runs the command in this process: to import torch and trl takes longer than to train."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("EOT_HOME", str(place / "home"))
    torch.set_num_threads(1)

    def run(*words):
        app(["models", "graft", *map(str, words)], standalone_mode=False)
        return capsys.readouterr().out

    return run


def losses(folder, who="model"):
    return json.loads((folder / "curve.json").read_text())[who]["trained"]
