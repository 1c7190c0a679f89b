"""`eot models`: the local models, and what of them lies on this disk."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands import graft, moe
from api.commands.options import Config, Json

app = typer.Typer(
    help="Local models: list, pull, fuse, graft, mix, remove.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(graft.app, name="graft")
app.add_typer(moe.app, name="moe")


@app.command("list")
def list_(config: Config = None, as_json: Json = False) -> None:
    """The catalogue: size, licence, and whether the weights are on disk."""
    from api.stocking import list_models

    list_models(config, as_json=as_json)


@app.command("pull")
def pull(
    names: Annotated[list[str], typer.Argument(help='Catalogue names; "council" for those of the default council.')],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Bring weights: resumable, checked against the catalogue's SHA-256."""
    from api.stocking import pull_models

    pull_models(names, config, as_json=as_json)


@app.command("fuse")
def fuse(
    members: Annotated[list[str], typer.Argument(help="Catalogue names or paths; the main one first.")],
    method: Annotated[
        str, typer.Option(help="auto, logit, prob, power, contrastive, unite, gac, deepen or safe.")
    ] = "auto",
    weights: Annotated[str, typer.Option(help="One number a member, with commas.")] = "",
    prompt: Annotated[str, typer.Option(help="What the timing goes on from.")] = "The capital of France is",
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens the timing writes.")] = 16,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Try a set of local models: can they be fused, by which method, and what will it cost?"""
    from api.fusing import try_fusion

    try_fusion(members, method, weights, prompt, tokens, config, as_json=as_json)


@app.command("rm")
def rm(
    names: Annotated[list[str], typer.Argument(help="Catalogue names.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove weights from this disk."""
    from api.stocking import remove_models

    remove_models(names, config, as_json=as_json)
