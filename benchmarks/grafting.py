"""Building a graft: how near it comes to what the disk can do, and how much memory it takes.

A model of `--mb` megabytes (random bytes as bfloat16 tensors, 16 layers) is grafted with m = 4 by a process of its own.
`build_mb_per_s`: bytes of the graft by the seconds until all of them are on the disk; `disk_mb_per_s`: the same number
of bytes copied from the same file in blocks of 8 MiB, as plain as can be, and as surely on the disk. Both in turns,
medians. `peak_over_model`: the building process's greatest resident memory, its own Python included, by the size of
the model; mapped pages count.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from report import arguments, in_turns, report

LAYERS, REMOVED, BLOCK = 16, 4, 8 << 20
_BUILD = """
import resource, sys
from pathlib import Path
from local_models.grafting import build, depth_upscaled
build([Path(sys.argv[1])], depth_upscaled(16, 4), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def model(folder: Path, megabytes: int) -> int:
    """A safetensors folder of about that size; return its bytes. No torch: the build needs none either."""
    width = 1024
    rows = megabytes * 10**6 // (LAYERS * width * 2)
    tensors = {f"model.layers.{at}.mlp.up_proj.weight": rows for at in range(LAYERS)}
    tensors["model.embed_tokens.weight"] = width
    header, at = {}, 0
    for name, height in tensors.items():
        size = height * width * 2
        header[name] = {"dtype": "BF16", "shape": [height, width], "data_offsets": [at, at + size]}
        at += size
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(told).to_bytes(8, "little") + told)
        for start in range(0, at, BLOCK):
            file.write(os.urandom(min(BLOCK, at - start)))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": LAYERS}))
    return at


def flushed(folder: Path) -> None:
    for file in folder.iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def copied(source: Path, folder: Path, size: int) -> None:
    """So many bytes of the source file, again and again from its beginning, into one file."""
    folder.mkdir()
    with source.open("rb", buffering=0) as read, (folder / "copy").open("wb", buffering=0) as write:
        left = size
        while left:
            block = read.read(min(BLOCK, left))
            if not block:
                read.seek(0)
            write.write(block)
            left -= len(block)
    flushed(folder)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--mb", type=int, default=2000, help="megabytes of the model that is grafted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; by default the system's temporary folder")
    asked = parser.parse_args()
    with TemporaryDirectory(dir=asked.folder) as place:
        base, out, copy = (Path(place) / name for name in ("base", "out", "copy"))
        base.mkdir()
        size = model(base, asked.mb)
        peaks: list[int] = []
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

        def build() -> None:
            shutil.rmtree(out, ignore_errors=True)
            told = subprocess.run(
                [sys.executable, "-c", _BUILD, base, out], env=environment, check=True, capture_output=True, text=True
            )
            peaks.append(int(told.stdout) * (1 if sys.platform == "darwin" else 1024))
            flushed(out)

        build()
        written = sum(file.stat().st_size for file in out.glob("*.safetensors"))

        def plain() -> None:
            shutil.rmtree(copy, ignore_errors=True)
            copied(base / "model.safetensors", copy, written)

        seconds = in_turns({"build": build, "plain": plain}, asked.repeats)
    figures = {
        "build_mb_per_s": written / seconds["build"] / 1e6,
        "disk_mb_per_s": written / seconds["plain"] / 1e6,
        "peak_over_model": max(peaks) / size,
        "model_mb": size / 1e6,
        "written_mb": written / 1e6,
    }
    report("grafting", figures, [f"this process took {_mine() / 1e6:,.0f} MB"], as_json=asked.json)


def _mine() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
