"""The nouns. One grows and nobody edits it: JSON > Question > Exchange > Verdict > JSON.

Every value here is frozen: LangGraph passes it along, the store keeps it, the API prints it, all from this one
definition. What can be derived is a property, never a field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from eot.text import MAX_CHARACTERS, fault_in

Kind = Literal["number", "choice", "yesno", "open", "json"]
"""What an answer is: a number, a letter among choices, yes or no, free text, or a JSON value."""

Finish = Literal["stop", "length"]
"""Why a model stopped writing: of itself (or at a stop string), or because its token limit cut it off."""


class Frozen(BaseModel):
    """A value: immutable, compared by content, and strict about fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _WithDerived(Frozen):
    """A value that prints derived facts too: what JSON brings back of them is dropped and derived again."""

    @model_validator(mode="before")
    @classmethod
    def _drop_derived(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.keys().isdisjoint(cls.model_computed_fields):
            return {key: value for key, value in given.items() if key not in cls.model_computed_fields}
        return given


class Question(Frozen):
    """What is asked.

    `kind` may be left out; it is then inferred from the text and the choices when answers are read.

    Raises:
        pydantic.ValidationError: the text is empty, too long, or holds a NUL or a lone surrogate.
    """

    text: str
    kind: Kind | None = None
    choices: Mapping[str, str] = Field(default_factory=dict)
    context: str = ""
    json_schema: str = ""
    """For kind "json": the schema that answers must fit, as JSON. Empty: any JSON value will do."""
    id: str = ""

    @model_validator(mode="after")
    def _is_a_question(self) -> Question:
        parts = {"text": self.text, "context": self.context, "json_schema": self.json_schema, "id": self.id}
        parts |= {f"choice {letter!r}": letter + text for letter, text in self.choices.items()}
        for name, part in parts.items():
            if fault := fault_in(part):
                raise ValueError(f"{name}: {fault}")
        if not self.text.strip():
            raise ValueError("the question is empty; write what you want to know")
        if (size := sum(map(len, parts.values()))) > MAX_CHARACTERS:
            raise ValueError(f"the question has {size:,} characters; at most {MAX_CHARACTERS:,} are taken")
        return self


class Usage(Frozen):
    """What was spent: calls, tokens and US dollars. A price that nobody knows is None, never 0."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        unknown = self.cost_usd is None or other.cost_usd is None
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
        )


class ToolCall(Frozen):
    """What a model asks of a tool of the asker's. `arguments` is JSON as the model wrote it; nobody has checked it."""

    id: str
    name: str
    arguments: str


def _is_empty(value: object) -> bool:
    return not value


ToolCalls = Annotated[tuple[ToolCall, ...], Field(exclude_if=_is_empty)]


class Message(Frozen):
    """One message. A tool's output (role "tool") says which call it answers."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: ToolCalls = ()
    tool_call_id: str = Field(default="", exclude_if=_is_empty)


class Prompt(Frozen):
    """What one agent is asked once.

    `run_id` and `round` say where it belongs, so that a paid answer can be kept; `question` is the text that was
    asked, without the instructions around it, so that a recorded answer can be found. `options` are further keys of a
    chat completion (`tools`, `tool_choice`, ...), for hosted agents alone.
    """

    messages: tuple[Message, ...]
    question: str = ""
    run_id: str = ""
    round: int = 0
    seed: int | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)


class Delta(Frozen):
    """A piece of a reply as it is written. `restart` says: forget what you heard of this reply, it begins anew."""

    text: str = ""
    restart: bool = False


class Reply(Frozen):
    """What an agent gave back. `recalled` is True when it came from the memo and was paid for earlier.

    The text may be empty where there are tool calls.
    """

    text: str
    usage: Usage = Usage(calls=1)
    finish: Finish = "stop"
    seconds: float = 0.0
    recalled: bool = False
    tool_calls: ToolCalls = ()


Hear = Callable[[Delta], None]


class Agent(Protocol):
    """Whatever answers a prompt: a hosted model, a local one, a script, or a wrapper around another agent."""

    @property
    def name(self) -> str: ...

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer the prompt, handing each piece of text to `hear` as it is written.

        Raises:
            eot.errors.CallError: the agent could not answer.
        """
        ...


class Thought(Frozen):
    """One turn that succeeded: the reasoning, and the answer read from it (None when none could be read)."""

    type: Literal["thought"] = "thought"
    agent: str
    round: int
    text: str
    answer: str | None = None
    confidence: float | None = None
    usage: Usage = Usage()
    finish: Finish = "stop"
    seconds: float = 0.0
    recalled: bool = False
    tool_calls: ToolCalls = ()
    """Where one agent was asked with tools. The text then ends with them, in words (`agents.verbatim.in_words`)."""


class Silence(Frozen):
    """One turn that failed. Failure is a value: it never stops the others."""

    type: Literal["silence"] = "silence"
    agent: str
    round: int
    reason: str
    detail: str = ""
    usage: Usage = Usage()
    seconds: float = 0.0


Turn = Annotated[Thought | Silence, Field(discriminator="type")]


class Stop(Frozen):
    """Why the exchange ended: the rule that fired, and at which round."""

    rule: str
    round: int
    detail: str = ""


class Exchange(_WithDerived):
    """A question, who hears whom, and every round so far. Round 0 is each agent alone.

    `waves` says who was asked together in round 0, one group after the other; no seat that could change nothing.
    """

    id: str
    question: Question
    kind: Kind
    topology: str
    hears: Mapping[str, tuple[str, ...]]
    mode: Literal["default", "eot-compat"] = "default"
    rounds: tuple[tuple[Turn, ...], ...] = ()
    waves: tuple[tuple[str, ...], ...] = ()
    stop: Stop | None = None

    @property
    def seats(self) -> tuple[str, ...]:
        """Names of the agents by seat; the first sits at the hub, or the root."""
        return tuple(self.hears)

    @property
    def thoughts(self) -> tuple[Thought, ...]:
        return tuple(turn for turns in self.rounds for turn in turns if isinstance(turn, Thought))

    @property
    def silences(self) -> tuple[Silence, ...]:
        return tuple(turn for turns in self.rounds for turn in turns if isinstance(turn, Silence))

    @property
    def first(self) -> Mapping[str, Thought]:
        """Each seat's thought of round 0, in seat order: what the crowd thought before it exchanged anything."""
        return self._by_seat(thought for thought in self.thoughts if thought.round == 0)

    @property
    def latest(self) -> Mapping[str, Thought]:
        """Each seat's last thought, in seat order: what the verdict is voted on."""
        return self._by_seat(self.thoughts)

    def _by_seat(self, thoughts: Iterable[Thought]) -> Mapping[str, Thought]:
        said = {thought.agent: thought for thought in thoughts}
        return {seat: said[seat] for seat in self.seats if seat in said}

    def of(self, agent: str) -> tuple[Thought, ...]:
        """One agent's thoughts, oldest first."""
        return tuple(thought for thought in self.thoughts if thought.agent == agent)

    @property
    def lost(self) -> tuple[str, ...]:
        """Seats whose last turn failed."""
        last = {turn.agent: turn for turns in self.rounds for turn in turns}
        return tuple(seat for seat in self.seats if isinstance(last.get(seat), Silence))

    @property
    def unasked(self) -> tuple[str, ...]:
        """Seats that were never asked, since the others had settled the vote."""
        asked = {turn.agent for turns in self.rounds for turn in turns}
        return tuple(seat for seat in self.seats if seat not in asked)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def usage(self) -> Usage:
        return sum((turn.usage for turns in self.rounds for turn in turns), Usage())


class Support(Frozen):
    """One answer of the crowd: who gave it, and the share of the weight behind it, in 0..1."""

    answer: str | None
    agents: tuple[str, ...]
    share: float


class ShadowVerdict(Frozen):
    """What the same vote says of round 0 alone: the crowd without the exchange.

    `same` says whether that is the verdict's answer too; None for two open answers in different words, of which
    nobody can tell by comparing them.
    """

    answer: str | None
    support: float
    same: bool | None


class Verdict(_WithDerived):
    """The crowd's answer and how it was reached.

    `support` is the winner's share in 0..1 of the ballots that could be read. A voter NAME/first is that agent's first
    answer, which holds half of its ballot when it changed its mind. `how` names the vote that decided;
    `signals` the similarities it used; `scores` its matrices by signal, rows and columns in the order of `voters`.
    """

    answer: str | None
    text: str
    agent: str
    how: str
    support: float
    margin: float = 0.0
    tie: bool = False
    supports: tuple[Support, ...] = ()
    abstained: tuple[str, ...] = ()
    voters: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    scores: Mapping[str, tuple[tuple[float, ...], ...]] = Field(default_factory=dict)
    shadow: ShadowVerdict | None = None
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def dissent(self) -> tuple[Support, ...]:
        """The answers that did not win, and who gave them."""
        return tuple(support for support in self.supports if support.answer != self.answer)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def degraded(self) -> bool:
        """True when an agent was lost on the way."""
        return bool(self.lost)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def changed(self) -> bool | None:
        """Whether the exchange changed the answer that round 0 alone would have given; None when unknown."""
        return None if self.shadow is None or self.shadow.same is None else not self.shadow.same


class Result(Frozen):
    """The whole of one run, as `eot ask --json` prints it."""

    question: Question
    exchange: Exchange
    verdict: Verdict
