"""A real mixture: branches of SmolLM2-135M (code, maths, plain language), a gate, and what each is worth.

    python benchmarks/moe_branches.py WORK --maths $DATA/questions --prose FORTUNES [--tokens N] [--plots FOLDER]

It prepares three corpora in WORK and does what `eot models moe train` does with them; what is there is not made again,
and what was interrupted goes on. `--maths` is a folder of JSONL files of word problems ({"text", "answer"}); `--prose`
the fortune files of Debian's packages `fortunes` and `fortunes-min` (`apt-get download` them, and `dpkg -x FILE .` puts
them into ./usr/share/games/fortunes). The code is the standard library of the Python that runs this.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

# Beside this file lies one that is named like a package of ours: this folder must come last.
sys.path.append(sys.path.pop(0))

from rich.console import Console

from api import mixture_report
from api.mixing import Place
from api.mixture_training import Growing, grow

MATHS = ("gsm8k", "svamp", "multiarith", "singleeq", "addsub")
PROSE = ("education", "food", "kids", "law", "literature", "love", "medicine", "news", "people", "pets", "politics",
         "science", "sports", "wisdom", "work")  # fmt: skip
DOMAINS = ("code", "maths", "prose")


def corpora(work: Path, maths: Path, prose: Path) -> dict[str, Path]:
    """The three corpora as JSONL files in `work`."""
    made = {domain: work / "corpora" / f"{domain}.jsonl" for domain in DOMAINS}
    if all(file.exists() for file in made.values()):
        return made
    (work / "corpora").mkdir(parents=True, exist_ok=True)
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = {
        "code": [excerpt(file.read_text(encoding="utf-8", errors="ignore"), at) for at, file in enumerate(library)],
        "maths": [
            f"{row['text']}\nThe answer is {row['answer']}."
            for name in MATHS
            for row in map(json.loads, (maths / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
        ],
        "prose": [
            piece.strip()
            for name in PROSE
            for piece in (prose / name).read_text(encoding="utf-8").split("\n%\n")
            if piece.strip()
        ],
    }
    for domain, file in made.items():
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[domain]), encoding="utf-8")
    return made


def excerpt(text: str, seed: int, characters: int = 3000) -> str:
    """Some lines of a file from anywhere in it, so that a few thousand tokens come from many files."""
    start = random.Random(seed).randrange(max(1, len(text) - characters))
    return text[text.find("\n", start) + 1 :][:characters] if start else text[:characters]


def markdown(found: list[mixture_report.Line]) -> str:
    """The table of docs/results/moe.md."""
    heads = ["", *found[0].losses, "mean", "to base", "own expert"]
    rows = [heads, ["---"] * len(heads), *([line.system, *mixture_report.cells(line)] for line in found)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def differences(report: Mapping[str, Any], name: str) -> str:
    """The paired differences of docs/results/moe.md."""
    found = mixture_report.paired(report, name)
    return "\n".join(f"{name} less {other}: {mixture_report.written(gap)}" for other, gap in found.items())


def spread(report: Mapping[str, Any], name: str) -> str:
    """Each domain's own expert: its share of the choices over all layers and in the first; the routers' entropy."""
    said = []
    for at, domain in enumerate(report["domains"]):
        found = report["systems"][name]["spread"][domain]
        own, entropy = [layer[at] for layer in found["shares"]], found["entropy"]
        taught, held = report["documents"][domain]
        said.append(
            f"{name}, {domain} ({taught} documents read to learn from, {held} held out): own expert "
            f"{mean(own):.0%} of the choices, {own[0]:.0%} in the first layer; entropy {mean(entropy):.2f} nats "
            f"({min(entropy):.2f} to {max(entropy):.2f})"
        )
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--maths", type=Path, required=True)
    parser.add_argument("--prose", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=20_480, help="tokens that each branch learns from")
    parser.add_argument("--router-tokens", type=int, default=10_240, help="tokens that the mixture learns from")
    parser.add_argument("--held", type=int, default=4_096, help="held-out tokens of each domain")
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate of the branches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plots", type=Path, help="copy the pictures here, as moe-NAME.png")
    asked = parser.parse_args()
    growing = Growing(
        base="smollm2-135m",
        corpora=corpora(asked.work, asked.maths, asked.prose),
        tokens=asked.tokens,
        router_tokens=asked.router_tokens,
        trains=("router", "experts-frozen"),
        held=asked.held,
        rate=asked.rate,
        seed=asked.seed,
        work=asked.work,
    )
    out = asked.work / "mixture"
    shutil.rmtree(out, ignore_errors=True)
    report = grow(growing, Place(out), None, as_json=False)
    said = [markdown(mixture_report.lines(report))]
    said += [differences(report, f"ridge gate, {active} active") for active in (2, 1)]
    said.append(spread(report, "ridge gate, 1 active"))
    Console().print("\n\n".join(said), markup=False, highlight=False, soft_wrap=True)
    for plot in out.glob("*.png") if asked.plots else ():
        shutil.copyfile(plot, asked.plots / f"moe-{plot.name}")


if __name__ == "__main__":
    main()
