"""`eot ask`: put one question to a council."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.options import Config, Json, names


def ask(
    question: Annotated[str, typer.Argument(help='What to ask; "-" reads it from standard input.')],
    council: Annotated[str, typer.Option(help="A council of eot.toml.")] = "default",
    agents: Annotated[str | None, typer.Option(help="Seat these agents instead, strongest first: a,b,c")] = None,
    topology: Annotated[str | None, typer.Option(help="memory, report, relay, debate, or one of eot.toml.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Exchange rounds at most; 0 is a vote without exchange.")] = None,
    stop: Annotated[
        str | None, typer.Option(help='Rules that end it early: unanimous,majority,stable; "" for none.')
    ] = None,
    vote: Annotated[
        str | None, typer.Option(help="auto, majority, confidence, sum, word_a_f, char_a_f or emb_a_s.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="default, or eot-compat: the rules of the published code.")] = None,
    quorum: Annotated[int | None, typer.Option(help="Agents that must answer. [default: half of the seats]")] = None,
    kind: Annotated[
        str | None, typer.Option(help="number, choice, yesno, open or json. [default: read from the question]")
    ] = None,
    choice: Annotated[
        list[str] | None, typer.Option(help="A choice, once for each: --choice A=red --choice B=blue")
    ] = None,
    context: Annotated[str, typer.Option(help="Background that every agent is given.")] = "",
    max_calls: Annotated[int | None, typer.Option(help="Budget: calls to agents.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Budget: tokens, read and written.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Budget: US dollars.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Budget: seconds.")] = None,
    run_id: Annotated[
        str | None, typer.Option(help="Name the run: the same name again asks only for what it had not got.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the whole run.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Print every agent's reasoning of every round too.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Put a question to a council; print the crowd's answer.

    Several LLMs answer, read each other's reasoning, answer again, and their last answers are voted on:

    eot ask "A bat and a ball cost $1.10. The bat costs $1 more than the ball. What does the ball cost, in cents?"
    """
    from api.asking import Asking, answer, overridden

    budget = {"calls": max_calls, "tokens": max_tokens, "usd": max_usd, "seconds": max_seconds}
    changes = {
        "agents": names(agents),
        "topology": topology,
        "rounds": rounds,
        "stop": names(stop),
        "vote": vote,
        "mode": mode,
        "quorum": quorum,
        "budget": {cap: value for cap, value in budget.items() if value is not None} or None,
    }
    asking = Asking(
        question=question, kind=kind, choices=tuple(choice or ()), context=context, run_id=run_id, seed=seed
    )
    answer(asking, overridden(config, council, changes), full=full, as_json=as_json)
