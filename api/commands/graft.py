"""`eot models graft`: a deeper model from the layers of one, or of two of the same shape."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.commands.graft_train import align, heal, teach
from api.commands.options import Config, Json, Name, Out, Progress

app = typer.Typer(
    help="Depth up-scaling (SOLAR): plan grafts of a local model, build one, heal, teach and align it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("plan")
def plan(
    model: Annotated[str, typer.Argument(help="A catalogue name, or a safetensors folder.")],
    text: Annotated[Path | None, typer.Option(help="Measure the loss on this text.", metavar="FILE")] = None,
    m: Annotated[
        list[int] | None, typer.Option("--m", help="Layers removed from each copy; may be given again.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the loss over m.", metavar="FILE.png")] = None,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """What each graft would weigh, and what it loses before any training. Nothing is built."""
    from api.grafting import Planning, plan_grafts

    plan_grafts(Planning(model, text, tuple(m or ()), plot, progress), config, as_json=as_json)


@app.command("build")
def build(
    models: Annotated[list[str], typer.Argument(help="One model, or two of the same shape: the lower, the upper.")],
    out: Out = None,
    name: Name = None,
    m: Annotated[int | None, typer.Option("--m", help="SOLAR's way: layers removed from each copy.")] = None,
    layer_map: Annotated[str | None, typer.Option("--map", help="0-23,8-31; of two models a:0-11,b:4-15.")] = None,
    expand: Annotated[int | None, typer.Option(help="LLaMA-Pro's way: so many identity blocks, evenly spread.")] = None,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Write the graft as an ordinary checkpoint, with a card that says what it was made from."""
    from api.grafting import Building, build_graft

    build_graft(Building(models, out, name, m, layer_map, expand, progress), config, as_json=as_json)


app.command("heal")(heal)
app.command("teach")(teach)
app.command("align")(align)


@app.command("export")
def export(
    model: Annotated[str, typer.Argument(help="A name, or a safetensors folder.")],
    like: Annotated[str, typer.Option(help="The GGUF that it was made from: a catalogue name, or a file.")],
    out: Annotated[Path | None, typer.Option(help="A new file.", metavar="FILE.gguf")] = None,
    name: Name = None,
    kind: Annotated[str, typer.Option(help="Of the weights: q8_0, q5_0, q4_0 or f16.")] = "q8_0",
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Quantise it into one GGUF file, which llama.cpp runs without torch."""
    from api.grafting import Exporting, export_graft

    export_graft(Exporting(model, like, kind, out, name, progress), config, as_json=as_json)
