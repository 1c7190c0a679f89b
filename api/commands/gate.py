"""`eot gate`: a learned choice of whom to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from api.commands.options import Config, Json

app = typer.Typer(
    help="A gate learns which agent is good at which questions: train, report.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Questions = Annotated[
    Path | None, typer.Option(help="The questions of that evaluation, if FILE is its results.jsonl.", metavar="FILE")
]


@app.command("train")
def train(
    name: Annotated[str, typer.Argument(help='What councils call it: agents = "gate:NAME".')],
    file: Annotated[
        Path | None,
        typer.Argument(help='Scored questions: {"question", "scores": {AGENT: 0..1}}; or results.jsonl of eot eval.'),
    ] = None,
    questions: Questions = None,
    feedback: Annotated[bool, typer.Option("--feedback", help="Learn from what callers said of runs, too.")] = False,
    method: Annotated[
        Literal["knn", "linear"], typer.Option(help="Nearest questions, or a trained linear gate.")
    ] = "knn",
    neighbours: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many questions kNN looks at, below four fifths of the rows. Unset: a tenth, 5 to 100.",
        ),
    ] = None,
    noise: Annotated[float, typer.Option(min=0, help="linear: constant noise on the logits while it learns.")] = 0.0,
    balance: Annotated[
        float, typer.Option(min=0, help="linear: weight of the balance loss (Switch); it costs accuracy.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the held-out fifth and of the training.")] = 0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train a gate, judged on a fifth of the questions that it has not seen, then kept as learnt from all of it."""
    from agents.gating import Recipe
    from api.gating import Training, train_gate

    recipe = Recipe(method=method, neighbours=neighbours, noise=noise, balance=balance, seed=seed)
    asked = Training(name=name, file=file, questions=questions, feedback=feedback, recipe=recipe)
    train_gate(asked, config, as_json=as_json)


@app.command("report")
def report(
    name: Annotated[str, typer.Argument(help="A gate that was trained.")],
    file: Annotated[Path, typer.Argument(help="Scored questions; those that it was trained on are left out.")],
    questions: Questions = None,
    costs: Annotated[
        Path | None, typer.Option(help='What asking an agent costs: {"AGENT": number}, in any unit.', metavar="FILE")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what a gate is worth beside the best single agent, a random one and the oracle."""
    from api.gating import Judging, report_gate

    report_gate(Judging(name, file, questions, costs), config, as_json=as_json)
