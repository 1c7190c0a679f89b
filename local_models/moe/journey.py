"""From a base and some corpora to a trained mixture and a report: branches, gate, router, each judged by the others.

Everything lies in one work folder. What is there is not made again, so a journey that was interrupted goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from eot.errors import InputError
from local_models.moe.branches import LINEAGE as BRANCH
from local_models.moe.branches import feed_forward, train_branch
from local_models.moe.build import Source, build, fitted, random_gate
from local_models.moe.card import Part, read_card
from local_models.moe.corpora import Corpus
from local_models.moe.descent import Schedule, Watch, digest
from local_models.moe.gate_init import TOKENS, hidden_gate, ridge_gate, router_inputs
from local_models.moe.judge import Judged, judge_dense, judge_mixture
from local_models.moe.recipe import Recipe, recipe, refuse_untaught
from local_models.moe.routing import routers_of
from local_models.moe.train import RouterLosses, Training, Trains, train_mixture
from local_models.transformers_load import load_model


@dataclass(frozen=True)
class Plan:
    """How far each stage goes. `trains`: ways to train the mixture, each from the ridge gate; the first one is kept."""

    branch: Schedule = field(default_factory=Schedule)
    router: Schedule = field(default_factory=lambda: Schedule(tokens=10_240, rate=1e-3))
    trains: tuple[Trains, ...] = ("router",)
    losses: RouterLosses = field(default_factory=RouterLosses)
    active: int = 2
    seed: int = 0

    def schedule(self, what: Trains) -> Schedule:
        """A router learns ten times as fast as what was trained before: at its rate attention and experts break."""
        return self.router if what == "router" else replace(self.router, rate=self.branch.rate)

    def tokens(self, domains: int) -> int:
        """How many tokens of each domain are needed, so that gate and router learn from others than the branches."""
        return self.branch.tokens + -(-self.router.tokens // domains)


@dataclass
class Journey:
    """`corpora` were read with `plan.tokens(...)` tokens to learn from. `tell` is told what is being done."""

    base: Source
    corpora: Sequence[Corpus]
    plan: Plan
    work: Path
    home: Path
    watch: Watch = lambda _: None
    tell: Callable[[str], None] = lambda _: None

    def run(self) -> dict[str, Any]:
        """Go the whole way; return the report, which is kept as `report.json`.

        Raises:
            InputError, WeightsError: as the stages do.
        """
        self._begin()
        for corpus in self.corpora:
            self._branch(corpus)
        self._judge_dense()
        self._judge_untrained()
        for what in self.plan.trains:
            self._train(what)
        report = self.report()
        (self.work / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        return report

    def _begin(self) -> None:
        """A journey that cannot end in a mixture is not begun; one that was interrupted goes on only as it was."""
        fitted(self.base.folder, self._recipe)
        refuse_untaught(self.plan.trains, self.plan.active)
        asked = {
            "base": asdict(Part.of(self.base.folder, self.base.name)),
            "plan": asdict(self.plan),
            "texts": {one.name: [digest(one.taught), digest(one.held)] for one in self.corpora},
        }
        file = self.work / "asked.json"
        if file.exists() and json.loads(file.read_text(encoding="utf-8")) != json.loads(json.dumps(asked)):
            raise InputError(
                f"{self.work} has a training of another base, or with other options or texts; "
                "give the same ones or remove it"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asked), encoding="utf-8")

    @property
    def mixture(self) -> Path:
        """The mixture that the journey ends with."""
        return self.work / f"trained-{self.plan.trains[0]}" if self.plan.trains else self.work / "built"

    def report(self) -> dict[str, Any]:
        """Everything that was measured so far."""
        names = [corpus.name for corpus in self.corpora]
        systems = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(self._results.glob("*.json"))}
        branches = {name: json.loads((self._at(name) / BRANCH).read_text("utf-8"))["losses"] for name in names}
        trained = {}
        for what in self.plan.trains:
            card = read_card(self.work / f"trained-{what}")
            trained[what] = {"curve": card.trained[-1]["curve"], "said": card.trained[-1]["said"]}
        return {
            "base": self.base.name,
            "domains": {corpus.name: corpus.source for corpus in self.corpora},
            "documents": {corpus.name: list(corpus.documents) for corpus in self.corpora},
            "held_tokens": {corpus.name: corpus.held.numel() for corpus in self.corpora},
            "plan": asdict(self.plan),
            "retaught": self._retaught,
            "systems": systems,
            "curves": {"branches": branches, "mixture": trained},
        }

    @cached_property
    def _recipe(self) -> Recipe:
        return recipe(len(self.corpora), active=self.plan.active, seed=self.plan.seed)

    def _at(self, domain: str) -> Path:
        return self.work / "branches" / domain

    @property
    def _results(self) -> Path:
        return self.work / "results"

    @cached_property
    def _held(self) -> Mapping[str, Tensor]:
        return {corpus.name: corpus.held for corpus in self.corpora}

    def _loaded(self, folder: Path) -> Any:
        return load_model(folder, self.home, torch.float32)[0]

    def _branch(self, corpus: Corpus) -> None:
        if self._at(corpus.name).exists():
            return
        self.tell(f"branch {corpus.name}: {self.plan.branch.tokens:,} tokens")
        own = replace(corpus, taught=corpus.first(self.plan.branch.tokens))
        model = self._loaded(self.base.folder)
        train_branch(
            self.base.folder, model, own, self.plan.branch, self._at(corpus.name), called=self.base.name,
            watch=self.watch,
        )  # fmt: skip

    def _rest(self, corpus: Corpus) -> Tensor:
        """What the branch has not learnt from, or all where there is no more: [n, T]."""
        rest = corpus.taught[len(corpus.first(self.plan.branch.tokens)) :]
        return rest if len(rest) else corpus.taught

    @property
    def _retaught(self) -> list[str]:
        """The domains of which gate and mixture learn from what their branch has learnt from: there is no more."""
        return [corpus.name for corpus in self.corpora if len(self._rest(corpus)) == len(corpus.taught)]

    def _judge_dense(self) -> None:
        names = ["base", *(f"branch {corpus.name}" for corpus in self.corpora), "weight average"]
        if all((self._results / f"{name}.json").exists() for name in names):
            return
        model = self._loaded(self.base.folder)
        own = feed_forward(model)
        self._judged("base", partial(judge_dense, model, self._held))
        mean = {name: torch.zeros_like(parameter) for name, parameter in own.items()}
        for corpus in self.corpora:
            branch = self._loaded(self._at(corpus.name))
            self._judged(f"branch {corpus.name}", partial(judge_dense, branch, self._held))
            for name, parameter in feed_forward(branch).items():
                mean[name] += parameter.data / len(self.corpora)
        for name, parameter in own.items():
            parameter.data = mean[name]
        self._judged("weight average", partial(judge_dense, model, self._held))

    @cached_property
    def _gates(self) -> dict[str, Tensor]:
        """The gates that are compared, [L, D, H] each."""
        kept = self.work / "gates.safetensors"
        if kept.exists():
            return load_file(kept)
        self.tell("gates: reading the routers' inputs")
        if self._retaught:
            self.tell(
                f"note: of {', '.join(self._retaught)} there is no more text than the branches learnt from, so gate "
                "and mixture learn from the same windows; give more text, or fewer --tokens"
            )
        model = self._loaded(self.base.folder)
        count = max(1, TOKENS // self.corpora[0].taught.shape[1])
        seen = router_inputs(model, [self._rest(corpus)[:count] for corpus in self.corpora])
        layers, domains, width = seen.sums.shape
        gates = {
            "random": random_gate(layers, domains, width, self.plan.seed),
            "hidden": hidden_gate(seen),
            "ridge": ridge_gate(seen),
        }
        save_file(gates, kept)
        return gates

    def _built(self) -> Path:
        out = self.work / "built"
        if not out.exists():
            models = [Source(self._at(corpus.name), corpus.name) for corpus in self.corpora]
            build(self.base, models, self._recipe, self._gates["ridge"], out, gate_from="closed-form ridge")
        return out

    def _judge_untrained(self) -> None:
        active = self.plan.active
        wanted = [(f"{gate} gate, {active} active", gate, active) for gate in self._gates]
        if active > 1:
            wanted.append(("ridge gate, 1 active", "ridge", 1))
        built = self._built()
        if all((self._results / f"{name}.json").exists() for name, _, _ in wanted):
            return
        model = self._loaded(built)
        for name, gate, count in wanted:
            set_gate(model, self._gates[gate], count)
            self._judged(name, partial(judge_mixture, model, self._held))

    def _train(self, what: Trains) -> None:
        out, name = self.work / f"trained-{what}", f"{what} trained, {self.plan.active} active"
        if not out.exists():
            self.tell(f"{what}: {self.plan.router.tokens:,} tokens")
            share = -(-self.plan.router.tokens // len(self.corpora))
            windows = torch.cat([self._rest(corpus)[: -(-share // corpus.taught.shape[1])] for corpus in self.corpora])
            model = self._loaded(self._built())
            training = Training(what, self.plan.schedule(what), self.plan.losses)
            train_mixture(self._built(), model, windows, training, out, watch=self.watch)
        if not (self._results / f"{name}.json").exists():
            self._judged(name, lambda: judge_mixture(self._loaded(out), self._held))

    def _judged(self, name: str, judge: Callable[[], Judged]) -> None:
        file = self._results / f"{name}.json"
        if file.exists():
            return
        self.tell(f"judging: {name}")
        found = judge()
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(asdict(found)), encoding="utf-8")
        part.replace(file)


def set_gate(model: Any, gate: Tensor, active: int) -> None:
    """Put these weights [L, E, H] into a loaded mixture's routers, with so many experts for a token."""
    for router, rows in zip(routers_of(model), gate, strict=True):
        router.weight.data.copy_(rows)
        router.top_k = active
