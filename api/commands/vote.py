"""`eot vote`: vote on answers that came from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.commands.options import Config


def vote(
    file: Annotated[
        Path, typer.Argument(help='JSONL or JSON, .gz too: {"question", "candidates": [{"agent", "text"}]}')
    ],
    method: Annotated[
        str, typer.Option(help="auto, majority, confidence, sum, word_a_f, char_a_f or emb_a_s.")
    ] = "auto",
    wsdm: Annotated[
        bool, typer.Option("--wsdm", help="Similarities to the digit as the WSDM Cup 2024 winner had them.")
    ] = False,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a row, for programs.")] = False,
) -> None:
    """Vote on answers from a file, a question a row.

    Where rows carry a gold answer, count how often the crowd is right.
    """
    from api.voting import vote_on_file

    vote_on_file(file, method=method, wsdm=wsdm, config=config, as_json=as_json)
