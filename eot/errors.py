"""Every error that `eot` raises on purpose.

EotError                       the one base
├── InputError                 what was handed in cannot be used; the message says what would be right
│   ├── QuestionError          the question is empty, too long or not valid text
│   ├── SettingsError          eot.toml or an EOT_ variable is wrong
│   ├── UnknownNameError       no agent, council, topology, vote or model has that name
│   ├── TopologyError          a table of who hears whom that cannot work
│   ├── AnswersError           a file of answers or questions has a row that cannot be read
│   └── MissingExtraError      the feature needs a package that is not installed
├── WeightsError               a model's files could not be had
│   ├── DigestError            a file is not the file that the catalogue promises
│   └── DiskFullError          no room for a file
├── TrainingError              a model could not be trained to the end
├── CallError                  one call to one agent failed
│   ├── TransientError         may work if asked again: overloaded, cut off, a server's fault
│   │   └── RateLimitedError   asked too fast; says how long to wait if the other side said so
│   ├── AuthError              the key is missing, wrong or not allowed
│   ├── ContextOverflowError   the prompt does not fit the model's context
│   ├── DeadlineError          no answer in time
│   ├── EmptyReplyError        the agent answered nothing
│   ├── OversizedReplyError    the agent would not stop writing
│   ├── BudgetSpentError       the next call would pass a cap
│   └── StoppedError           whoever had asked for the run has stopped it
├── NoQuorumError              too few agents answered for a verdict
└── BudgetError                a cap was reached before there was anything to vote on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EotError(Exception):
    """The one base of all errors of `eot`. `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(EotError):
    """What was handed in cannot be used; the message says what would be right."""

    exit_code = 2


class QuestionError(InputError):
    """The question is empty, too long or not valid text."""


class SettingsError(InputError):
    """eot.toml or an EOT_ variable is wrong."""


class UnknownNameError(InputError):
    """No agent, council, topology, vote or model has that name."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"There is no {what} called {name!r}.{meant} Known: {', '.join(known) or 'none'}.")
        self.name = name


class TopologyError(InputError):
    """A table of who hears whom that cannot work."""


class AnswersError(InputError):
    """A file of answers or questions has a row that cannot be read."""


class MissingExtraError(InputError):
    """The feature needs a package that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed; in the checkout: pip install '.[{extra}]'")


class WeightsError(EotError):
    """A model's files could not be had."""


class DigestError(WeightsError):
    """A file is not the file that the catalogue promises."""


class DiskFullError(WeightsError):
    """No room for a file."""


class TrainingError(EotError):
    """A model could not be trained to the end."""


class CallError(EotError):
    """One call to one agent failed. `reason` is a short word for tables and counters.

    `calls` is how many real calls it took: an agent's own error stands for one, a turn's for all of its attempts.
    """

    reason = "error"
    calls: int = 1


class TransientError(CallError):
    """May work if asked again: overloaded, cut off, a server's fault."""

    reason = "unavailable"


class RateLimitedError(TransientError):
    """Asked too fast. `retry_after` is what the other side asked us to wait, in seconds, if it said so."""

    reason = "rate limit"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AuthError(CallError):
    """The key is missing, wrong or not allowed."""

    reason = "key refused"


class ContextOverflowError(CallError):
    """The prompt does not fit the model's context. Both numbers are tokens."""

    reason = "context overflow"

    def __init__(self, message: str, prompt_tokens: int | None = None, context_tokens: int | None = None) -> None:
        super().__init__(message)
        self.prompt_tokens, self.context_tokens = prompt_tokens, context_tokens


class DeadlineError(CallError):
    """No answer in time."""

    reason = "deadline"


class EmptyReplyError(CallError):
    """The agent answered nothing."""

    reason = "empty"


class OversizedReplyError(CallError):
    """The agent would not stop writing."""

    reason = "too long"


class BudgetSpentError(CallError):
    """The next call would pass a cap of the budget."""

    reason = "budget"
    calls = 0


class StoppedError(CallError):
    """Whoever had asked for the run has stopped it."""

    reason = "stopped"
    calls = 0


class NoQuorumError(EotError):
    """Too few agents answered for a verdict."""

    exit_code = 3


class BudgetError(EotError):
    """A cap was reached before there was anything to vote on."""

    exit_code = 4
