"""The composition root: the only place where real things are chosen and put together from the settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from agents import (
    Briefed,
    Budget,
    Budgeted,
    CallRecord,
    Calls,
    CallStore,
    Capped,
    Checked,
    Deadline,
    HostedAgent,
    Memo,
    Metered,
    Paced,
    Prices,
    Retry,
    Watched,
)
from agents.gating import Balance
from api.bare_agents import bare_agent, fingerprint, refuse_unpriced
from api.gated import balance_for, candidates, seated, written
from api.store import Store, open_store
from eot.errors import EotError, SettingsError, UnknownNameError
from eot.settings import FUSION, AgentSettings, CouncilSettings, Settings
from eot.types import Agent, Question
from local_models import Engines, Lending, locate
from local_models.embed import Embedder
from scoring import Embed
from topologies import Council, table

if TYPE_CHECKING:
    from local_models.fusion import FusionEngine
    from local_models.moe.explain import Explained

_EMBEDDING_VOTES = ("auto", "sum", "emb_a_s")


class House:
    """What outlives one run: the loaded engines, the kept calls, the embedder. Close it when done.

    `observe` is handed a record of every real call; metrics and logs are built on it. `spending` holds for all runs
    together and counts what is newly spent: a recalled reply is free there. Replies are kept in `calls`, or in a file
    of the home.
    """

    def __init__(
        self,
        settings: Settings,
        observe: Callable[[CallRecord], None] | None = None,
        spending: Budget | None = None,
        calls: Calls | None = None,
    ) -> None:
        self.settings = settings
        self._observe = observe
        self.spending = spending
        self._engines = Engines(
            settings.home,
            threads=settings.threads,
            parallel=settings.parallel,
            context=settings.context,
            engine=settings.engine,
            fusions=settings.fusions,
            mixtures={name: table.model for name, table in settings.moes.items()},
        )
        self.lending = Lending(self._engines, settings.serve.fusion_models)
        """For sets of local models that a request describes."""
        self._bare: dict[str, Agent] = {}
        self._store = calls
        self.salt = ""
        """Set where several machines must write the same prompts; else each home has its own."""
        self._shared: Store | None = None
        self._embed: Embed | None = None
        self._balances: dict[tuple[str, tuple[str, ...], int], Balance | None] = {}

    async def close(self) -> None:
        await self.lending.close()
        await self._engines.close()
        if self._store:
            self._store.close()
        if self._shared:
            await self._shared.close()

    async def explained(self, model: str, text: str) -> Explained:
        """Which expert of a mixture took which token of the text, by the engine that its agents share.

        Raises:
            UnknownNameError, InputError, WeightsError, MissingExtraError: there is no such mixture, or it cannot run.
        """
        async with self._engines.shown(model) as engine:
            from local_models.moe.explain import explain  # noqa: PLC0415  (torch takes seconds)

            return await engine.between(lambda model, tokenizer: explain(model, tokenizer, text))

    async def seated(self, seats: CouncilSettings, question: Question) -> CouncilSettings:
        """Who sits for this question: the gate's choice where the council has a gate, else who is named.

        Raises:
            InputError: there is no such gate, or it cannot choose.
            MissingExtraError, WeightsError: there is nothing to embed the question with.
        """
        if not seats.gate_name:
            return seats
        embed = self.embedder("emb_a_s")
        assert embed is not None, "emb_a_s raises where nothing can embed"
        return await seated(seats, question, self.settings, embed, self._balance(seats))

    def _balance(self, seats: CouncilSettings) -> Balance | None:
        """One for all runs of a council, since it learns from each choice; a gate trained anew begins anew."""
        if not seats.shares and seats.capacity is None:
            return None
        wanted = seats.model_dump_json(include={"agents", "shares", "capacity"})
        key = wanted, candidates(seats, self.settings), written(seats.gate_name, self.settings)
        if key not in self._balances:
            self._balances[key] = balance_for(seats, self.settings)
        return self._balances[key]

    async def council(
        self, seats: CouncilSettings, *, tuned: Mapping[str, AgentSettings] | None = None, keep: bool = True
    ) -> Council:
        """Seat a council for one run: every agent in its wrappers, one budget shared by all.

        `tuned` has the settings of agents that are to differ for this run, by name. Without `keep` no reply is kept:
        for runs that nobody could start again.

        Raises:
            UnknownNameError: an agent or the topology does not exist.
            TopologyError: the table cannot work for these agents.
            SettingsError: dollars are capped, and nobody knows what an agent costs.
            InputError: an agent's settings cannot work.
        """
        names = self._in_seat_order(seats)
        hears = table(seats.topology, names, self.settings.topologies)
        tuned = tuned or {}
        agents = {name: tuned.get(name) or self._configured(name) for name in names}
        if seats.quorum and seats.quorum > len(agents):
            raise SettingsError(f"a quorum of {seats.quorum} cannot be reached by {len(agents)} agents")
        budget = Budget(seats.budget)
        bare = {name: self._agent(name, agent) for name, agent in agents.items()}
        if seats.budget.usd is not None or (self.spending and self.spending.caps.usd is not None):
            await refuse_unpriced(bare.values())
        return Council(
            agents={name: self._wrapped(bare[name], agent, budget, keep=keep) for name, agent in agents.items()},
            topology=seats.topology,
            hears=hears,
            rounds=seats.rounds,
            stop=seats.stop,
            gate=seats.gate,
            lazy=seats.lazy,
            keep_first=seats.keep_first,
            vote=seats.vote,
            wsdm=seats.wsdm,
            mode=seats.mode,
            quorum=seats.quorum or -(-len(agents) // 2),
            weights={name: agent.weight for name, agent in agents.items()},
            embed=self.embedder(seats.vote),
            exhausted=budget.exhausted,
            salt=self.salt or _salt(self.settings.home),
        )

    async def fused(self, name: str) -> FusionEngine:
        """A set of the settings, as `Engines.fused`; `name` begins with `fusion/`."""
        return await self._engines.fused(name.removeprefix(FUSION))

    async def prices(self) -> dict[str, Prices | None]:
        """What each agent's tokens cost; None where nobody knows. What runs on this machine costs nothing."""
        bare = {name: self._agent(name, agent) for name, agent in self.settings.agents.items()}
        free = Prices(input_usd_per_million=0, output_usd_per_million=0)
        return {
            name: await agent.known_prices() if isinstance(agent, HostedAgent) else free for name, agent in bare.items()
        }

    def _in_seat_order(self, seats: CouncilSettings) -> tuple[str, ...]:
        """The heaviest ballot sits at the hub, or the root; equals stay as they were written."""
        if seats.topology in self.settings.topologies or seats.mode == "eot-compat":
            return seats.agents
        return tuple(sorted(seats.agents, key=lambda name: -self._configured(name).weight))

    def _configured(self, name: str) -> AgentSettings:
        agent = self.settings.agent(name)
        if agent is None:
            raise UnknownNameError("agent", name, self.settings.agents)
        return agent

    def _agent(self, name: str, settings: AgentSettings) -> Agent:
        """Made once: it serves any number of runs, and one that replays a file has read it."""
        if settings != self.settings.agents.get(name):
            return bare_agent(name, settings, self._engines)
        if name not in self._bare:
            self._bare[name] = bare_agent(name, settings, self._engines)
        return self._bare[name]

    def _wrapped(self, bare: Agent, settings: AgentSettings, budget: Budget, *, keep: bool) -> Agent:
        """An agent in its wrappers, from the inside out.

        Each attempt is checked, watched and paid from the budget, and tried again within one deadline; a call waits
        for the provider's pace, and its reply is kept. The turn as a whole stays within the budget, and is told the
        agent's own instructions.
        """
        agent: Agent = Checked(bare)
        if self._observe:
            agent = Watched(agent, self._observe, settings.model)
        agent = Metered(agent, budget)
        if self.spending:
            agent = Capped(agent, self.spending)
        agent = Deadline(Retry(agent, settings.retries), settings.deadline)
        agent = self._paced(agent, settings)
        if keep:
            agent = Memo(agent, self._calls(), fingerprint(settings, self.settings))
        return Briefed(Budgeted(agent, budget), settings.instructions, settings.seed)

    def _paced(self, agent: Agent, settings: AgentSettings) -> Agent:
        if settings.requests_per_minute is None and settings.tokens_per_minute is None:
            return agent
        self._shared = self._shared or open_store(self.settings.serve.store, self.settings.home)
        rates = settings.requests_per_minute, settings.tokens_per_minute
        return Paced(agent, self._shared.counters, *rates, settings.max_tokens)

    def _calls(self) -> Calls:
        self._store = self._store or CallStore(self.settings.home / "calls.sqlite")
        return self._store

    def prune_calls(self, before: float) -> int:
        """Forget the replies that were kept before this Unix time; return how many. It blocks: use a thread."""
        kept = self._store or (self.settings.home / "calls.sqlite").exists()
        return self._calls().prune(before) if kept else 0

    def embedder(self, method: str) -> Embed | None:
        """What embeds for this vote, made once; see `embedder`."""
        self._embed = self._embed or embedder(self.settings, method)
        return self._embed if method in _EMBEDDING_VOTES else None


def _salt(home: Path) -> str:
    """A secret of this home, made once, so that nobody who is quoted can foresee the marks around quotations."""
    file = home / "salt"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=home, encoding="ascii") as made:  # readable by its owner alone
            made.write(secrets.token_hex(16))
            made.flush()
            with suppress(FileExistsError):  # another process was quicker: its salt counts
                os.link(made.name, file)
    return file.read_text(encoding="ascii")


def embedder(settings: Settings, method: str) -> Embed | None:
    """What embeds for this vote. None where it is not wanted, or not at hand: words and characters then do alone.

    Raises:
        MissingExtraError: the vote is by embeddings alone, and the packages are not installed.
        WeightsError: the same, and the model is not on disk.
    """
    if method not in _EMBEDDING_VOTES:
        return None
    try:
        return Embedder(locate(settings.embed.model, settings.home))
    except EotError:
        if method == "emb_a_s":
            raise
        return None
