"""What `eot models moe train|explain` does: branches, a gate, a trained router, and a report of what each is worth."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api import mixture_report
from api.commands.options import names
from api.milestones import teller
from api.mixing import Place, mixture_place, refuse_without_torch, source_of
from eot.errors import InputError, MissingExtraError
from eot.settings import load
from eot.text import clean
from local_models.grafting.sources import checkpoint_of

if TYPE_CHECKING:
    from local_models.moe.corpora import Corpus
    from local_models.moe.descent import Step
    from local_models.moe.explain import Explained
    from local_models.moe.journey import Plan

Trains = Literal["router", "experts-frozen", "experts", "esft"]


@dataclass(frozen=True)
class Growing:
    """A base and the texts of each domain, how long each stage is, and where the stages' results are kept meanwhile.

    Without `work` they lie beside the mixture and go when it is done. `held` caps the held-out tokens of a domain.
    """

    base: str
    corpora: Mapping[str, Path]
    tokens: int = 20_480
    rate: float = 2e-4
    router_tokens: int = 10_240
    router_rate: float = 1e-3
    balance: float = 0.0
    z: float = 1e-3
    trains: tuple[Trains, ...] = ("router",)
    active: int = 2
    window: int = 256
    held: int | None = 8_192
    seed: int = 0
    work: Path | None = None


def grow(asked: Growing, place: Place, config: Path | None, *, as_json: bool) -> dict[str, Any]:
    """Go from a base and corpora to a trained mixture with its report; print that, and return it.

    Raises:
        InputError: the corpora or the options cannot be used.
        UnknownNameError, WeightsError, MissingExtraError: the base cannot be had, or something not be written.
    """
    refuse_without_torch()
    from local_models.moe.journey import Journey  # noqa: PLC0415  (torch takes seconds)

    home, console, tell = load(config).home, Console(stderr=True), teller(place.progress)
    if len(asked.corpora) < 2:
        raise InputError("a mixture has two domains at least: --corpus code=FILE --corpus maths=FILE")
    out, name = mixture_place(place, home)
    plan, base = _plan(asked), source_of(asked.base, home)
    corpora = _read(asked, base.folder, plan.tokens(len(asked.corpora)))
    work = asked.work or out.with_name(f".{out.name}.training")

    def watch(step: Step) -> None:
        tell(asdict(step))
        if console.is_terminal or not as_json:
            console.print(f"{step.stage}: {step.step}/{step.steps}, loss {step.loss:.3f}", style="dim")

    def say(what: str) -> None:
        tell({"stage": what})
        console.print(what, style="dim")

    journey = Journey(base, corpora, plan, work, home, watch, say)
    report = journey.run()
    _finish(journey.mixture, report, out, keep=asked.work is not None)
    found = mixture_report.lines(report)
    if as_json:
        told = [asdict(line) | {"to_base": line.to_base.model_dump()} for line in found]
        sys.stdout.write(json.dumps({"model": name, "folder": str(out), "systems": told}) + "\n")
    else:
        Console().print(mixture_report.table(found))
        Console().print(f'{out}: an agent asks it with model = "{name}"; its report.json lies in it', soft_wrap=True)
    if not asked.work:
        shutil.rmtree(work)
    return report


def _plan(asked: Growing) -> Plan:
    from local_models.moe.descent import Schedule  # noqa: PLC0415
    from local_models.moe.journey import Plan  # noqa: PLC0415
    from local_models.moe.train import RouterLosses  # noqa: PLC0415

    return Plan(
        branch=Schedule(tokens=asked.tokens, rate=asked.rate, seed=asked.seed),
        router=Schedule(tokens=asked.router_tokens, rate=asked.router_rate, seed=asked.seed),
        trains=asked.trains,
        losses=RouterLosses(balance=asked.balance, z=asked.z),
        active=asked.active,
        seed=asked.seed,
    )


def _read(asked: Growing, base: Path, tokens: int) -> list[Corpus]:
    from transformers import AutoTokenizer  # noqa: PLC0415

    from local_models.moe.corpora import read_corpus  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    return [
        read_corpus(name, path, tokenizer, window=asked.window, most=(tokens, asked.held), seed=asked.seed)
        for name, path in asked.corpora.items()
    ]


def _finish(mixture: Path, report: Mapping[str, Any], out: Path, *, keep: bool) -> None:
    """The report and its pictures into the mixture's folder, and that into its place."""
    made = mixture
    if keep:
        made = out.with_name(f".{out.name}.copy")
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(mixture, made)
    (made / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    try:
        mixture_report.draw(report, made)
    except MissingExtraError as fault:
        Console(stderr=True).print(f"no pictures: {fault}", style="dim", soft_wrap=True)
    made.rename(out)


def corpora_of(typed: Sequence[str]) -> dict[str, Path]:
    """`NAME=FILE` as it is typed.

    Raises:
        InputError: it is not written so, or a name comes twice.
    """
    found: dict[str, Path] = {}
    for one in typed:
        name, equals, path = one.partition("=")
        if not (equals and path and name.replace("-", "").replace("_", "").isalnum()) or name in found:
            raise InputError(f"--corpus {one}: write NAME=FILE, each name once, of letters, digits, - and _")
        found[name] = Path(path)
    return found


def trains_of(typed: str) -> tuple[Trains, ...]:
    """`router,experts` as it is typed.

    Raises:
        InputError: one of them is no way of training.
    """
    known = get_args(Trains)
    found = tuple(dict.fromkeys(names(typed) or ()))
    if not found or not set(found) <= set(known):
        raise InputError(f"--train {typed}: write one or more of {', '.join(known)}")
    return cast("tuple[Trains, ...]", found)


def explain_text(mixture: str, text: str, layer: int | None, config: Path | None, *, as_json: bool) -> None:
    """Print which expert took which token.

    Raises:
        InputError: the text is empty or too long, or the model is no mixture.
        UnknownNameError, WeightsError, MissingExtraError: it cannot be had.
    """
    refuse_without_torch()
    from local_models.moe.explain import explain  # noqa: PLC0415
    from local_models.transformers_load import load_model  # noqa: PLC0415

    home = load(config).home
    folder = checkpoint_of(mixture, home)
    found = explain(*load_model(folder, home), text)
    names = experts_of(folder, len(found.by_expert))
    if layer is not None and not 0 <= layer < len(found.load):
        raise InputError(f"there is no layer {layer}: they are numbered 0 to {len(found.load) - 1}")
    if as_json:
        sys.stdout.write(json.dumps(asdict(found) | {"names": names, "by_expert": found.by_expert}) + "\n")
    else:
        _print(found, names, layer)


def experts_of(folder: Path, count: int) -> list[str]:
    """What the experts are called: as on the card, else by their numbers."""
    from local_models.moe.card import read_card  # noqa: PLC0415

    try:
        return list(read_card(folder).experts)
    except InputError:
        return [str(at) for at in range(count)]


def _print(found: Explained, names: Sequence[str], layer: int | None) -> None:
    console = Console()
    layers = range(len(found.load)) if layer is None else [layer]
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("token", *names):
        drawn.add_column(heading, justify="left" if heading == "token" else "right")
    for at, token in enumerate(found.tokens):
        taken = [0.0] * len(names)
        for each in layers:
            for expert, weight in zip(found.experts[each][at], found.weights[each][at], strict=True):
                taken[expert] += weight / len(layers)
        drawn.add_row(Text(repr(clean(token))), *(f"{share:.2f}" if share else "" for share in taken))
    console.print(drawn)
    where = "over all layers" if layer is None else f"in layer {layer}"
    console.print(f"weight of each expert for each token, {where}", style="dim")
    load = [found.load[each] for each in layers]
    for name, shares in zip(names, zip(*(one.shares for one in load), strict=True), strict=True):
        console.print(f"{name}: {sum(shares) / len(shares):.0%} of the assignments", markup=False, highlight=False)
    entropy = sum(one.entropy for one in load) / len(load)
    worst = max(one.max_violation for one in load)
    console.print(f"entropy {entropy:.2f} nats a token; busiest expert {worst:.0%} above an even share")
