"""The gate: a question's vector in, whom to ask out. Kept in one file without pickles."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.gating.choose import Balance, top_k, top_p
from agents.gating.examples import Examples, Floats, digests, means
from agents.gating.knn import Knn, neighbours_of
from agents.gating.softmax import Linear, train
from eot.errors import InputError

Method = Literal["knn", "linear"]
READ_CHARACTERS = 600
"""How much of a question is embedded: its beginning says what sort it is, and long prompts cost time."""


@dataclass(frozen=True)
class Pick:
    """Whom to ask, best first, and every agent's expected reward in 0..1."""

    agents: tuple[str, ...]
    expected: dict[str, float]


@dataclass(frozen=True)
class Gate:
    """`model` gives expected rewards from vectors made by the embedding model named `embedder`.

    `means`[M] is how good each agent was on the `learnt_from` rows it was taught, `taught` the digests of their
    questions, each once.
    """

    agents: tuple[str, ...]
    model: Knn | Linear
    embedder: str
    learnt_from: int
    means: Floats
    taught: NDArray[np.uint64]

    def was_taught(self, questions: Sequence[str]) -> NDArray[np.bool_]:
        """bool[N]: which of these questions it learnt from, and so must not be judged on."""
        return np.isin(digests(questions), self.taught)

    def expected(self, vectors: Floats) -> Floats:
        """vectors[Q, d] of unit length -> expected rewards[Q, M], agents in the order of `agents`.

        Raises:
            InputError: the vectors have another width than those it learnt from.
        """
        known = self.model.vectors if isinstance(self.model, Knn) else self.model.weights.T
        if vectors.shape[1] != known.shape[1]:
            raise InputError(
                f"the gate was trained on vectors of {known.shape[1]} numbers by {self.embedder}, and these have "
                f"{vectors.shape[1]}; set embed.model to that model, or train the gate again"
            )
        return self.model.expected(vectors)

    def pick(
        self,
        vector: Floats,
        among: Sequence[str],
        *,
        most: int,
        wanted: float | None = None,
        balance: Balance | None = None,
    ) -> Pick:
        """Whom of `among` to ask: the `most` best, or with `wanted` as few as make a right answer that likely.

        `balance` has the shares of those of `among` that the gate knows, in their order; it learns from the choice.

        Raises:
            InputError: the gate knows none of them.
        """
        row = self.expected(vector[None])[0]
        expected = {name: float(row[self.agents.index(name)]) for name in among if name in self.agents}
        if not expected:
            raise InputError(f"the gate knows {', '.join(self.agents)}, and none of {', '.join(among)}")
        names, values = list(expected), np.array(list(expected.values()))
        liked = values if balance is None else balance.liked(values)
        places = top_k(liked, most) if wanted is None else top_p(values, wanted, most, liked)
        if balance:
            balance.note(places)
        return Pick(tuple(names[place] for place in places), expected)


@dataclass(frozen=True)
class Recipe:
    """How a gate is made: `neighbours` for kNN; `noise` and `balance` for the linear gate (`agents.gating.softmax`).

    `neighbours` unset: as many as suit the rows (`agents.gating.knn.neighbours_of`).

    Raises:
        InputError: an option of the other method is given.
    """

    method: Method = "knn"
    neighbours: int | None = None
    noise: float = 0.0
    balance: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method == "linear" and self.neighbours is not None:
            raise InputError("a linear gate looks at no neighbours: leave the number out, or take the method knn")
        if self.method == "knn" and (self.noise or self.balance):
            raise InputError("noise and balance are the linear gate's: leave them out, or take the method linear")


def fit(found: Examples, vectors: Floats, embedder: str, recipe: Recipe | None = None) -> Gate:
    """A gate from examples and the vectors of their questions, [N, d] of unit length, made by the model `embedder`.

    Raises:
        InputError: so many neighbours were wanted that every row is one.
    """
    recipe = recipe or Recipe()
    vectors = np.asarray(vectors, dtype=np.float64)
    if recipe.method == "knn":
        model: Knn | Linear = Knn(vectors, found.rewards, _neighbours(recipe.neighbours, len(found)))
    else:
        model = train(vectors, found.rewards, noise=recipe.noise, balance=recipe.balance, seed=recipe.seed)
    taught = np.unique(digests(found.questions))
    return Gate(found.agents, model, embedder, len(found), means(found.rewards), taught)


def _neighbours(wanted: int | None, rows: int) -> int:
    if wanted is None:
        return neighbours_of(rows)
    if wanted >= rows:
        raise InputError(
            f"of {rows} rows to learn from, {wanted} neighbours are all, and such a gate cannot tell questions apart; "
            f"take fewer, or leave the number out: {neighbours_of(rows)}"
        )
    return wanted


def save(gate: Gate, path: Path) -> None:
    """Write the gate, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    model = gate.model
    arrays: dict[str, Any] = {"means": gate.means, "taught": gate.taught}
    said: dict[str, Any] = {"agents": gate.agents, "embedder": gate.embedder, "learnt_from": gate.learnt_from}
    if isinstance(model, Knn):
        said |= {"method": "knn", "neighbours": model.neighbours}
        arrays |= {"vectors": model.vectors.astype(np.float32), "rewards": model.rewards.astype(np.float32)}
    else:
        said |= {"method": "linear"}
        arrays |= {"weights": model.weights, "bias": model.bias}
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez_compressed(file, said=np.array(json.dumps(said)), **arrays)
        part.replace(path)
    except OSError as fault:
        part.unlink(missing_ok=True)
        raise InputError(f"the gate cannot be written to {path}: {fault.strerror}") from fault


def load(path: Path) -> Gate:
    """Read a gate. Runs no code that a file brings along.

    Raises:
        InputError: there is none, or the file is no gate.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            said = json.loads(str(kept["said"]))
            taught = kept["taught"].astype(np.uint64)
            arrays = {name: kept[name].astype(np.float64) for name in kept.files if name not in ("said", "taught")}
        model: Knn | Linear
        if said["method"] == "knn":
            model = Knn(arrays["vectors"], arrays["rewards"], int(said["neighbours"]))
        else:
            model = Linear(arrays["weights"], arrays["bias"])
        agents, learnt_from = tuple(said["agents"]), int(said["learnt_from"])
        return Gate(agents, model, str(said["embedder"]), learnt_from, arrays["means"], taught)
    except FileNotFoundError:
        raise InputError(f"there is no gate {path.stem!r}: train one with `eot gate train {path.stem} FILE`") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as fault:
        raise InputError(f"{path} is no gate of eot, or is damaged; train it again") from fault
