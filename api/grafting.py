"""What `eot models graft` does: plan grafts of a local model, and build one."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.milestones import teller
from eot.errors import InputError, MissingExtraError
from eot.settings import load
from local_models import locate, place_for
from local_models.grafting import (
    UNTRAINED,
    Layer,
    block_expanded,
    build,
    depth_upscaled,
    method_of,
    parse_map,
    said,
)
from local_models.grafting.build import read_config
from local_models.grafting.sources import checkpoint_of

if TYPE_CHECKING:
    from local_models.grafting.plan import Plan, Planned

SAMPLE = (
    "A shop sells pens in boxes of twelve. Ann buys three boxes, gives eight pens away and shares the rest equally "
    "among four friends. Three boxes hold thirty-six pens; twenty-eight are left, so each friend gets seven.\n\n"
    "The river rises in the hills, runs south through two lakes and reaches the sea near the old harbour. Boats could "
    "once go up as far as the mill, but since the dam was built nobody has tried.\n\n"
    "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n    return result\n"
)
"""Read where no text is given: a little arithmetic, prose and code. Your own text says more about your own use."""


@dataclass(frozen=True)
class Planning:
    """Whose layers, the text to measure on, the m to try (none: a spread of them), and where a plot goes."""

    model: str
    text: Path | None = None
    removed: tuple[int, ...] = ()
    plot: Path | None = None
    progress: Path | None = None


def plan_grafts(asked: Planning, config: Path | None, *, as_json: bool) -> None:
    """Print what each graft would weigh and lose.

    Raises:
        InputError: the text is too short or unreadable, an m is out of range.
        UnknownNameError, WeightsError, MissingExtraError: the model cannot be had.
    """
    try:
        from local_models.grafting.plan import plan  # noqa: PLC0415  (torch takes seconds)
        from local_models.transformers_load import load_model  # noqa: PLC0415
    except ImportError as fault:
        raise MissingExtraError("Planning a graft", "torch") from fault
    settings = load(config)
    text = _text(asked.text)
    model, tokenizer = load_model(checkpoint_of(asked.model, settings.home), settings.home)
    console, tell = Console(stderr=True), teller(asked.progress)

    def watch(graft: Planned) -> None:
        tell(asdict(graft))
        if console.is_terminal:
            console.print(f"m = {graft.removed}: {graft.layers} layers, {graft.loss:.3f} nats a token", style="dim")

    found = plan(model, tokenizer, text, asked.removed or None, watch=watch)
    if asked.plot:
        _draw(found, asked.plot)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
    else:
        _print(found, asked.model)


def _text(path: Path | None) -> str:
    if path is None:
        return SAMPLE
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"the text {path} cannot be read: {fault}") from fault


def _print(found: Plan, model: str) -> None:
    title = f"grafts of {model}, before any training; loss in nats a token on {found.tokens} tokens"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
    for heading in ("m", "map", "layers", "parameters", "memory", "loss", "to base"):
        table.add_column(heading, justify="left" if heading == "map" else "right", no_wrap=True)
    for one in (found.base, *found.grafts):
        name = "base" if one is found.base else str(one.removed)
        marked = "bold" if one.removed == found.recommended and one is not found.base else ""
        cells = (
            name,
            one.map,
            str(one.layers),
            f"{one.parameters / 1e6:,.1f} M",
            f"{one.size / 1e6:,.0f} MB",
            f"{one.loss:.3f}",
            f"{one.loss - found.base.loss:+.3f}",
        )
        table.add_row(*(Text(cell, style=marked) for cell in cells))
    console = Console()
    console.print(table)
    if found.recommended is not None:
        console.print(
            f"m = {found.recommended} loses least among those that add a quarter of the layers or more: "
            f"eot models graft build {model} --m {found.recommended} --out FOLDER",
            soft_wrap=True,
        )


def _draw(found: Plan, path: Path) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (an extra, and a second)
    except ImportError as fault:
        raise MissingExtraError("A plot", "eval") from fault
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.plot([one.removed for one in found.grafts], [one.loss for one in found.grafts], "o-", label="graft, untrained")
    axes.axhline(found.base.loss, linestyle="--", color="grey", label="base")
    axes.set(xlabel="m: layers removed from each copy", ylabel="loss, nats a token", title="Depth up-scaling")
    axes.legend()
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as fault:
        raise InputError(f"the plot cannot be written to {path}: {fault}") from fault


@dataclass(frozen=True)
class Building:
    """One model, or two of one shape, and one of the ways to say which layers: m, an explicit map, or added blocks.

    It is written to a folder, or kept in the home under a name.
    """

    models: Sequence[str]
    out: Path | None = None
    name: str | None = None
    removed: int | None = None
    layer_map: str | None = None
    expand: int | None = None
    progress: Path | None = None


def build_graft(asked: Building, config: Path | None, *, as_json: bool) -> None:
    """Build a graft and say how to use it.

    Raises:
        InputError: the layers are said in no way or in two, or cannot be.
        UnknownNameError, WeightsError, MissingExtraError: a model cannot be had, or the graft not be written.
    """
    if len(asked.models) > 2:
        raise InputError("a graft is made of one model, or of two of the same shape")
    home = load(config).home
    place, model = place_of(asked.out, asked.name, home)
    folders = [checkpoint_of(name, home) for name in asked.models]
    count = read_config(folders[0])["num_hidden_layers"]
    layers = _layers(asked, count)
    method = method_of(layers, count)
    teller(asked.progress)({"map": said(layers), "layers": len(layers)})
    with _ended_in_order():
        built = build(folders, layers, place, [Path(name).name for name in asked.models])
    if as_json:
        told = {"model": model, "folder": str(built.folder), "map": said(layers), "layers": built.layers}
        sys.stdout.write(json.dumps(told | {"parameters": built.parameters, "bytes": built.size}) + "\n")
        return
    console = Console()
    console.print(f"{built.folder}: {built.layers} layers ({said(layers)}), {built.parameters / 1e6:,.1f} M parameters")
    console.print(f'an agent asks it with model = "{model}"')
    console.print(f"{method}; not trained yet: {UNTRAINED[method]}", soft_wrap=True)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM unwinds what is in work, so that half-written files go with it; exit code 143, as a shell has it."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Exporting:
    """A model as one GGUF of `kind`; what is no weight comes from the GGUF `like`. To a file, or kept under a name."""

    model: str
    like: str
    kind: str
    out: Path | None = None
    name: str | None = None
    progress: Path | None = None


def export_graft(asked: Exporting, config: Path | None, *, as_json: bool) -> None:
    """Write a model as one quantised GGUF file.

    Raises:
        InputError: it cannot be exported, or the file exists.
        UnknownNameError, WeightsError, MissingExtraError: a model cannot be had.
    """
    try:
        from local_models.grafting.export import export  # noqa: PLC0415  (torch takes seconds)
    except ImportError as fault:
        raise MissingExtraError("Exporting a model", "torch") from fault
    home = load(config).home
    place, model = place_of(asked.out, asked.name, home)
    file = place if asked.out else place.with_name(f"{place.name}.gguf")
    file.parent.mkdir(parents=True, exist_ok=True)
    teller(asked.progress)({"kind": asked.kind})
    with _ended_in_order():
        size = export(checkpoint_of(asked.model, home), locate(asked.like, home), file, asked.kind)
    if as_json:
        told = {"model": model, "file": str(file), "bytes": size, "kind": asked.kind}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    Console().print(f'{file}: {size / 1e6:,.0f} MB; an agent asks it with model = "{model}"', soft_wrap=True)


def place_of(out: Path | None, name: str | None, home: Path) -> tuple[Path, str]:
    """Where a new model is to lie, and what an agent calls it.

    Raises:
        InputError: it is said in no way or in two, or is taken.
    """
    if (out is None) == (name is None):
        raise InputError("say where the model is to go: --out PATH, or --name NAME to keep it in the home")
    if name is not None:
        return place_for(name, home), f"local/{name}"
    assert out is not None, "one of the two was said"
    if out.exists():
        raise InputError(f"{out} exists already; name a new one")
    return out, f"local/{out}"


def _layers(asked: Building, count: int) -> tuple[Layer, ...]:
    second = len(asked.models) == 2
    ways = [asked.removed is not None, asked.layer_map is not None, asked.expand is not None]
    if sum(ways) != 1:
        raise InputError("say which layers in one way: --m 8, --map 0-23,8-31, or --expand 4")
    if asked.removed is not None:
        return depth_upscaled(count, asked.removed, second=second)
    if asked.expand is not None:
        return block_expanded(count, asked.expand)
    return parse_map(asked.layer_map or "", count, second=second)
