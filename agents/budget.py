"""The caps of one run, shared by all its agents."""

from __future__ import annotations

import time

from eot.errors import BudgetSpentError
from eot.settings import BudgetSettings
from eot.types import Usage


class Budget:
    """What one run may spend and has spent. One object for all agents of the run.

    Every call is reserved before it is made, so that agents asked in parallel cannot pass the cap on calls. Tokens
    and dollars are known only afterwards: no call begins once their cap is reached, and the calls then under way may
    pass it. A failed call counts as one. Seconds run from the making of this object; a call under way is ended.
    """

    def __init__(self, caps: BudgetSettings) -> None:
        self.caps = caps
        self.spent = Usage()
        self._under_way = 0
        self._started = time.monotonic()

    @property
    def seconds_left(self) -> float | None:
        if self.caps.seconds is None:
            return None
        return max(0.0, self.caps.seconds - (time.monotonic() - self._started))

    def exhausted(self) -> str:
        """The cap that is reached, in words, or "" when another call may begin."""
        calls = self.spent.calls + self._under_way
        if self.caps.calls is not None and calls >= self.caps.calls:
            return f"{self.caps.calls:,} calls"
        if self.caps.tokens is not None and self.spent.tokens >= self.caps.tokens:
            return f"{self.caps.tokens:,} tokens"
        if self.caps.usd is not None and (self.spent.cost_usd is None or self.spent.cost_usd >= self.caps.usd):
            unknown = " (a call of unknown price was made)" if self.spent.cost_usd is None else ""
            return f"{self.caps.usd:g} US dollars{unknown}"
        return f"{self.caps.seconds:g} seconds" if self.seconds_left == 0 else ""

    def reserve(self, who: str, *, again: bool = False) -> None:
        """Take one call out of the budget before it is made; `again` when it is not the first of its turn.

        Raises:
            BudgetSpentError: a cap is reached.
        """
        if cap := self.exhausted():
            asked = "asked again" if again else "asked"
            raise BudgetSpentError(f"{who} was not {asked}: the run's cap of {cap} is reached")
        self._under_way += 1

    def settle(self, usage: Usage) -> None:
        """Put what was really spent, perhaps nothing, in the place of a reservation."""
        self._under_way -= 1
        self.spent += usage
