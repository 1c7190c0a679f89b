"""What `eot models` does, and how weights that a question needs are brought before it is asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

import local_models
from api.broken_off import throw_away
from api.defaults import with_defaults
from api.gated import weights_needed
from eot.errors import EotError
from eot.settings import CouncilSettings, Settings, load
from local_models import CATALOGUE
from local_models.gguf_header import read_header


def list_models(config: Path | None, *, as_json: bool) -> None:
    """Print the catalogue, with what is on disk."""
    settings = load(config)
    rows = [
        {
            "name": model.name,
            "mb": round(model.bytes / 1e6),
            "licence": model.licence,
            "chat": model.chat,
            "context_tokens": model.context_tokens,
            "on_disk": str(local_models.on_disk(model.name, settings.home) or ""),
        }
        for model in CATALOGUE.values()
    ] + [_row_of(name, place) for name, place in local_models.all_built(settings.home).items()]
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("model", "size", "licence", "chat", "context", "on disk"):
        table.add_column(heading)
    for row in rows:
        chat, here = ("yes" if row["chat"] else "no"), ("yes" if row["on_disk"] else "-")
        table.add_row(str(row["name"]), f"{row['mb']} MB", str(row["licence"]), chat, str(row["context_tokens"]), here)
    Console().print(table)


def _row_of(name: str, place: Path) -> dict[str, object]:
    """A model that was made here; one whose files are damaged says so in its row."""
    try:
        return _made_here(name, place)
    except (EotError, OSError, ValueError) as fault:
        nothing: dict[str, object] = {"mb": 0, "chat": False, "context_tokens": 0}
        return nothing | {"name": name, "licence": f"damaged: {fault}", "on_disk": str(place), "damaged": str(fault)}


def _made_here(name: str, place: Path) -> dict[str, object]:
    """A model that was grafted, trained or exported. Its licence is that of what it was made from: see its card."""
    told = {"name": name, "licence": "see its card", "on_disk": str(place)}
    if place.is_file():
        header = read_header(place)
        length = header.get(f"{header.get('general.architecture')}.context_length", 0)
        size, chat = place.stat().st_size, "tokenizer.chat_template" in header
    else:
        length = json.loads((place / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings", 0)
        size = sum(file.stat().st_size for file in place.glob("*.safetensors"))
        chat = any(place.glob("chat_template*")) or "chat_template" in _read(place / "tokenizer_config.json")
    return told | {"mb": round(size / 1e6), "chat": chat, "context_tokens": length}


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def pull_models(names: Sequence[str], config: Path | None, *, as_json: bool) -> None:
    """Pull these models, a progress bar each. The word "council" stands for the default council's."""
    settings = with_defaults(load(config))
    wanted = [name for typed in names for name in (_of(settings, "default") if typed == "council" else [typed])]
    if not wanted:
        Console(stderr=True).print("nothing to pull: no agent of this council runs on this machine")
    bring(dict.fromkeys(wanted), settings)
    if as_json:
        places = [
            {"name": name, "path": str(local_models.locate(name, settings.home))} for name in dict.fromkeys(wanted)
        ]
        sys.stdout.write(json.dumps(places) + "\n")


def _of(settings: Settings, council: str) -> list[str]:
    return missing(settings, settings.councils[council], also_present=True)


def missing(settings: Settings, council: CouncilSettings, *, also_present: bool = False) -> list[str]:
    """Catalogue models that this council's agents run on, and that are not on disk yet."""
    models = [settings.agents[agent].model for agent in weights_needed(council, settings) if agent in settings.agents]
    names = dict.fromkeys(name for model in models for name in local_names(model, settings))
    return [
        name for name in names if name in CATALOGUE and (also_present or not local_models.on_disk(name, settings.home))
    ]


def local_names(model: str, settings: Settings) -> tuple[str, ...]:
    """The local models that an agent's `model` runs on: none, one, or the members of a fused set."""
    prefix, _, rest = model.partition("/")
    if prefix == "fusion" and rest in settings.fusions:
        return settings.fusions[rest].members
    if prefix == "moe" and rest in settings.moes:
        return (settings.moes[rest].model,)
    return (rest,) if prefix == "local" else ()


def bring(names: Iterable[str], settings: Settings) -> None:
    """Pull what is not on disk, with a bar on a terminal and a line a model when piped; sizes are said first."""
    console = Console(stderr=True)
    models = [local_models.find(name) for name in names]
    absent = [model for model in models if not local_models.on_disk(model.name, settings.home)]
    for model in (model for model in models if model not in absent):
        console.print(f"{model.name}: on disk")
    if not absent:
        return
    total = sum(model.bytes for model in absent) / 1e6
    console.print(
        f"{total:,.0f} MB of weights: {', '.join(f'{m.name} ({m.bytes / 1e6:,.0f} MB, {m.licence})' for m in absent)}"
    )
    for terms in {model.terms for model in absent if model.terms}:
        console.print(terms, style="yellow")
    with _bars(console) as bars:
        for model in absent:
            _pull(model.name, settings.home, bars)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _pull(name: str, home: Path, bars: Progress) -> None:
    task: TaskID = bars.add_task(name, total=None)

    def heard(progress: local_models.Progress) -> None:
        if progress.note:
            bars.console.print(f"{name}: {progress.note}", style="dim", markup=False, highlight=False)
        bars.update(
            task, completed=progress.done, total=progress.total, description=f"{name} from the {progress.source}"
        )

    path = local_models.pull(name, home, heard)
    bars.console.print(f"{name}: {path}", markup=False, highlight=False)


def bring_for(council: CouncilSettings, settings: Settings) -> None:
    """Before a question: the weights that this council needs and the disk does not have."""
    if names := missing(settings, council):
        bring(names, settings)


def _removed(name: str, home: Path) -> int:
    """Bytes freed of a model, and of what a training of this name that was broken off has left."""
    left = throw_away(home / "built" / name) if Path(name).name == name else 0
    if left and name not in CATALOGUE and not local_models.built(name, home):
        return left  # there is nothing else of this name
    return left + local_models.remove(name, home)


def remove_models(names: Sequence[str], config: Path | None, *, as_json: bool) -> None:
    """Remove weights; what is not there is said, not an error."""
    home = load(config).home
    freed = {name: _removed(name, home) for name in names}
    if as_json:
        sys.stdout.write(json.dumps([{"name": name, "freed_bytes": size} for name, size in freed.items()]) + "\n")
        return
    for name, size in freed.items():
        Console().print(f"{name}: {f'{size / 1e6:,.0f} MB freed' if size else 'was not on disk'}")
