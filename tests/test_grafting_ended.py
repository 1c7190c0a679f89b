"""A build or an export that is told to end (SIGTERM) leaves nothing half-written."""

import subprocess
import sys

import pytest
from command import environment

pytest.importorskip("torch")
pytest.importorskip("gguf")
import tiny

pytestmark = pytest.mark.torch

_SLOW = """
import importlib, sys, time
module = importlib.import_module("local_models.grafting." + sys.argv.pop(1))
def begins(*_):
    print("writes", flush=True)
    time.sleep(60)
if module.__name__.endswith("build"):
    def write(folder, tensors):
        (folder / "model.safetensors").write_bytes(b"half")
        begins()
    module.write = write
else:
    def _write(folder, config, reader, out, kind):
        out.write_bytes(b"half")
        begins()
    module._write, module._read = _write, lambda *_: None
from api.cli import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [
        ("build", "base", "--m", "1", "--out", "out"),
        ("export", "base", "--like", "like.gguf", "--out", "out.gguf"),
    ],
)
def test_what_is_ended_by_sigterm_takes_its_half_written_files_with_it(tmp_path, words):
    tiny.model(tmp_path / "base")
    (tmp_path / "like.gguf").write_bytes(b"GGUF")
    before = sorted(tmp_path.rglob("*"))
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, words[0], "models", "graft", *words],
        cwd=tmp_path,
        env=environment(tmp_path / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "writes\n", process.stderr.read()
        assert len(list(tmp_path.rglob("*"))) > len(before)
        process.terminate()
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143
    assert sorted(path for path in tmp_path.rglob("*") if tmp_path / "home" not in (path, *path.parents)) == before
