"""A real mixture of experts: three branches of SmolLM2-135M (code, maths, plain language), a gate, and what each is worth.

    python benchmarks/moe_branches.py WORK --maths $DATA/questions --prose FORTUNES [--tokens N] [--out docs/results]

WORK keeps corpora, branches and mixtures: what is there is not made again, and what was interrupted goes on.
`--maths` is a folder of JSONL files of word problems ({"text", "answer"}); `--prose` the fortune files of Debian's
package `fortunes` (apt-get download fortunes && dpkg -x fortunes_*.deb . , then ./usr/share/games/fortunes). The code is
the standard library of the Python that runs this.
"""

from __future__ import annotations

import argparse
import json
import random
import sysconfig
import time
from pathlib import Path

import torch

from local_models.grafting.sources import checkpoint_of
from local_models.moe.branches import train_branch
from local_models.moe.corpora import Corpus, read_corpus
from local_models.moe.descent import Schedule, Step
from local_models.transformers_load import load_model

BASE = "smollm2-135m"
MATHS = ("gsm8k", "svamp", "multiarith", "singleeq", "addsub")
PROSE = ("education", "food", "kids", "law", "literature", "love", "medicine", "news", "people", "pets", "politics",
         "science", "sports", "wisdom", "work")  # fmt: skip
HELD_TOKENS = 12 * 256
"""Of each domain, for judging."""
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


def tell(step: Step) -> None:
    print(f"{time.strftime('%H:%M:%S')} {step.stage}: {step.step}/{step.steps} loss {step.loss:.3f}", flush=True)


def branches(work: Path, base: Path, read: dict[str, Corpus], schedule: Schedule, home: Path) -> dict[str, Path]:
    """A branch a domain, trained unless it is there."""
    made = {domain: work / "branches" / domain for domain in DOMAINS}
    for domain, folder in made.items():
        if not folder.exists():
            model, _ = load_model(base, home, torch.float32)
            train_branch(base, model, read[domain], schedule, folder, called=BASE, watch=tell)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--maths", type=Path, required=True)
    parser.add_argument("--prose", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=10_240, help="tokens that each branch is trained on")
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    home = Path.home() / ".cache" / "eot"
    base = checkpoint_of(BASE, home)
    files = corpora(asked.work, asked.maths, asked.prose)
    _, tokenizer = load_model(base, home)
    read = {
        domain: read_corpus(domain, file, tokenizer, most=(asked.tokens, HELD_TOKENS), seed=asked.seed)
        for domain, file in files.items()
    }
    schedule = Schedule(tokens=asked.tokens, rate=asked.rate, seed=asked.seed)
    branches(asked.work, base, read, schedule, home)


if __name__ == "__main__":
    main()
