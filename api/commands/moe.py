"""`eot models moe`: mixtures of experts from models that lie here: built, trained, explained, changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from api.commands.options import Config, Json, Name, Out, Progress

app = typer.Typer(
    help="Mixtures of experts: build one, train one, see who takes which token, add and drop experts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Active = Annotated[int, typer.Option(min=1, help="Experts for each token.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.")]


@app.command("build")
def build(
    base: Annotated[str, typer.Argument(help="The dense model: a catalogue name, one made here, or a folder.")],
    models: Annotated[
        list[str] | None, typer.Argument(help="Fine-tuned copies of it. None: experts of itself.")
    ] = None,
    out: Out = None,
    name: Name = None,
    active: Active = 2,
    copies: Annotated[int, typer.Option(min=1, help="Sparse upcycling: so many experts of each model.")] = 1,
    split: Annotated[int, typer.Option(min=1, help="Fine-grained experts that each layer is split into.")] = 1,
    shared_pieces: Annotated[int, typer.Option(min=0, help="How many of those every token takes.")] = 0,
    shared: Annotated[
        Literal["none", "base", "mean"], typer.Option(help="An expert that every token takes: the base, or the mean.")
    ] = "none",
    noise: Annotated[float, typer.Option(min=0, help="Tells copies apart; in standard deviations.")] = 0.0,
    gate: Annotated[
        Literal["random", "hidden", "ridge", "zero"] | None,
        typer.Option(
            help="hidden and ridge are made from --text; ridge is best without training.  "
            "[default: ridge with --text, else random]"
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="What each model is for, in their order; or MODEL=FILE.", metavar="FILE")
    ] = None,
    seed: Seed = 0,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Write a mixture as a Mixtral or Qwen2-MoE checkpoint that plain transformers and vLLM load, with a card."""
    from api.mixing import Mixing, Place, build_mixture, texts_of

    asked = Mixing(
        base,
        tuple(models or ()),
        active,
        copies,
        split,
        shared_pieces,
        shared,
        noise,
        gate,
        texts_of(text or (), models or ()),
        seed,
    )
    build_mixture(asked, Place(out, name, progress), config, as_json=as_json)


@app.command("train")
def train(
    base: Annotated[str, typer.Argument(help="The dense model that the branches are copies of.")],
    corpus: Annotated[
        list[str], typer.Option(help="NAME=FILE of each domain: text, JSONL with a text in each row, or a folder.")
    ],
    out: Out = None,
    name: Name = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens that each branch learns from.")] = 20_480,
    rate: Annotated[float, typer.Option(min=0, help="Learning rate of the branches.")] = 2e-4,
    router_tokens: Annotated[int, typer.Option(min=1, help="Tokens that the mixture learns from.")] = 10_240,
    router_rate: Annotated[float, typer.Option(min=0, help="Learning rate of the mixture.")] = 1e-3,
    balance: Annotated[float, typer.Option(min=0, help="Weight of Switch's balance loss.")] = 0.0,
    z: Annotated[float, typer.Option(min=0, help="Weight of ST-MoE's z-loss.")] = 1e-3,
    trains: Annotated[
        str,
        typer.Option(
            "--train",
            help="router, experts-frozen, experts or esft; several with commas to compare: the first is kept.",
        ),
    ] = "router",
    active: Active = 2,
    window: Annotated[int, typer.Option(min=8, help="Tokens that are read at once.")] = 256,
    held: Annotated[int, typer.Option(min=1, help="Held-out tokens of each domain, at most.")] = 8_192,
    work: Annotated[Path | None, typer.Option(help="Keep branches and all stages here.", metavar="FOLDER")] = None,
    seed: Seed = 0,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Train a branch a domain, build the mixture, train its router, and report each beside the base and the others.

    Asked for again after it was interrupted, it goes on.
    """
    from api.mixing import Place
    from api.mixture_training import Growing, corpora_of, grow, trains_of

    asked = Growing(
        base, corpora_of(corpus), tokens, rate, router_tokens, router_rate, balance, z, trains_of(trains),
        active, window, held, seed, work,
    )  # fmt: skip
    grow(asked, Place(out, name, progress), config, as_json=as_json)


@app.command("tune")
def tune(
    mixture: Annotated[str, typer.Argument(help="A mixture that was made here, or a folder.")],
    corpus: Annotated[list[str], typer.Option(help="NAME=FILE of each domain, as for train.")],
    out: Out = None,
    name: Name = None,
    what: Annotated[
        Literal["router", "experts-frozen", "experts", "esft"], typer.Option("--train", help="What of it is trained.")
    ] = "experts-frozen",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens that it learns from, all domains together.")] = 10_240,
    rate: Annotated[float, typer.Option(min=0, help="Learning rate.")] = 1e-4,
    balance: Annotated[float, typer.Option(min=0, help="Weight of Switch's balance loss.")] = 0.0,
    z: Annotated[float, typer.Option(min=0, help="Weight of ST-MoE's z-loss.")] = 1e-3,
    window: Annotated[int, typer.Option(min=8, help="Tokens that are read at once.")] = 256,
    held: Annotated[int, typer.Option(min=1, help="Held-out tokens of each domain, at most.")] = 8_192,
    seed: Seed = 0,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Train a mixture further: one of copies or of pieces, which has to grow apart or to heal, or any other."""
    from api.mixing import Place
    from api.mixture_training import corpora_of
    from api.mixture_tuning import Tuning
    from api.mixture_tuning import tune as tune_mixture

    asked = Tuning(mixture, corpora_of(corpus), what, tokens, rate, balance, z, window, held, seed)
    tune_mixture(asked, Place(out, name, progress), config, as_json=as_json)


@app.command("explain")
def explain(
    mixture: Annotated[str, typer.Argument(help="A mixture that was made here, or a folder.")],
    text: Annotated[str, typer.Argument(help="What it is to read.")],
    layer: Annotated[int | None, typer.Option(min=0, help="Only this layer. [default: the mean of all]")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Which expert took which token, how the load was spread, and how sure the routers were."""
    from api.mixture_training import explain_text

    explain_text(mixture, text, layer, config, as_json=as_json)


@app.command("add")
def add(
    mixture: Annotated[str, typer.Argument(help="A mixture that was made here, or a folder.")],
    model: Annotated[str, typer.Argument(help="The new expert: a fine-tuned copy of the mixture's base.")],
    text: Annotated[Path, typer.Option(help="What the expert is for.", metavar="FILE")],
    other: Annotated[list[Path], typer.Option(help="What the others are for; may be given again.", metavar="FILE")],
    out: Out = None,
    name: Name = None,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Write the mixture with one more expert; the others, and their rows of the gate, stay as they are."""
    from api.mixing import Place, add_expert

    add_expert(mixture, model, text, other, Place(out, name, progress), config, as_json=as_json)


@app.command("drop")
def drop(
    mixture: Annotated[str, typer.Argument(help="A mixture that was made here, or a folder.")],
    expert: Annotated[str, typer.Argument(help="The expert's name, or its number from 0.")],
    out: Out = None,
    name: Name = None,
    config: Config = None,
    as_json: Json = False,
    progress: Progress = None,
) -> None:
    """Write the mixture without one of its experts."""
    from api.mixing import Place, drop_expert

    drop_expert(mixture, expert, Place(out, name, progress), config, as_json=as_json)
