"""What may be newly spent over many runs: a cap that recalled replies do not touch."""

from __future__ import annotations

from dataclasses import dataclass

from agents.budget import Budget
from eot.types import Agent, Hear, Prompt, Reply, Usage


@dataclass(frozen=True)
class Capped:
    """Counts each attempt in a budget that outlives the run. It stands inside the Memo and the Retry."""

    agent: Agent
    budget: Budget

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        """Answer, if one more call is within the budget; one that fails counts as one.

        Raises:
            BudgetSpentError: a cap is reached.
        """
        self.budget.reserve(self.name)
        spent = Usage(calls=1)
        try:
            reply = await self.agent.ask(prompt, hear)
            spent = reply.usage
        finally:
            self.budget.settle(spent)
        return reply
