"""eot's own runs as types: a question, who is to sit, and what a run looks like from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from api.asks import COUNCIL, Ask, council_of, json_question, make_question
from api.http.errors import ErrorBody
from api.http.types import Exact
from eot.errors import InputError, QuestionError
from eot.settings import BudgetSettings, CouncilSettings, Settings, StopRule, VoteMethod
from eot.types import Kind, Result

Calls = Annotated[int, Field(ge=1, lt=2**31)]


class Caps(Exact):
    """What the run may spend. A cap of the operator's cannot be lifted, only lowered."""

    calls: Calls | None = None
    tokens: Calls | None = None
    usd: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None

    def within(self, operators: BudgetSettings) -> BudgetSettings:
        pairs = {name: (value, getattr(operators, name)) for name, value in self.model_dump().items()}
        return BudgetSettings(**{name: _least(*pair) for name, pair in pairs.items()})


def _least(*caps: float | None) -> float | None:
    return min((cap for cap in caps if cap is not None), default=None)


class InlineCouncil(Exact):
    """A council for this run: the default one, with what is said here about it. Only configured agents can sit."""

    agents: Annotated[list[str], Field(min_length=1, max_length=32)] | None = None
    topology: str | None = None
    rounds: Annotated[int, Field(ge=0, le=20)] | None = None
    stop: Annotated[list[StopRule], Field(max_length=3)] | None = None
    vote: VoteMethod | None = None
    gate: Annotated[float, Field(ge=0.5, le=1)] | None = None
    lazy: bool | None = None
    keep_first: bool | None = None
    mode: Literal["default", "eot-compat"] | None = None
    quorum: Calls | None = None
    budget: Caps = Caps()

    def over(self, default: CouncilSettings) -> CouncilSettings:
        """The default council with these changes.

        Raises:
            InputError: together they cannot be.
        """
        told = {name: value for name, value in self.model_dump(exclude={"budget"}).items() if value is not None}
        budget = self.budget.within(default.budget)
        quorum = {"quorum": None} if "agents" in told else {}
        try:
            return CouncilSettings(**(default.model_dump() | quorum | told | {"budget": budget}))
        except ValidationError as fault:
            raise InputError(fault.errors()[0]["msg"]) from None


class AskedQuestion(Exact):
    text: str
    kind: Kind | None = None
    choices: Annotated[dict[str, str], Field(max_length=26)] = Field(default_factory=dict)
    context: str = ""
    json_schema: dict[str, Any] | None = None


class RunRequest(Exact):
    """A question and who is to answer: a council by name, or one of this run's own."""

    question: str | AskedQuestion
    council: Annotated[str, Field(max_length=200)] | InlineCouncil = "default"
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    stream: bool = False

    def ask(self, settings: Settings) -> Ask:
        """The run that is meant.

        Raises:
            QuestionError: the question cannot be asked.
            InputError: the council cannot sit.
        """
        given = AskedQuestion(text=self.question) if isinstance(self.question, str) else self.question
        fields = given.model_dump(exclude={"json_schema"})
        if given.json_schema is not None:
            if given.kind not in (None, "json"):
                raise QuestionError(f'a json_schema goes with the kind "json", not with {given.kind!r}')
            fields |= json_question(given.json_schema)
        return Ask(make_question(**fields), self._council(settings), self.seed)

    def _council(self, settings: Settings) -> CouncilSettings:
        if isinstance(self.council, InlineCouncil):
            return self.council.over(settings.councils["default"])
        return council_of(COUNCIL + self.council.removeprefix(COUNCIL), settings)


class RunSummary(BaseModel):
    """A run in a list."""

    id: str
    object: Literal["run"] = "run"
    created: float
    ended: float | None = None
    status: Literal["running", "completed", "failed", "stopped"]
    title: str


class RunObject(RunSummary):
    """A run: `result` is there when it came to a verdict, stopped or not; `error` says why it did not."""

    request: Mapping[str, Any]
    result: Result | None = None
    error: ErrorBody | None = None


class RunList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RunSummary]
    has_more: bool
