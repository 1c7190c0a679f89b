"""Small evaluations for tests: scripted members that count their calls, kept in a real store, seated by hand."""

from agents import Briefed, Budget, CallStore, Capped, Checked, Memo, ScriptedAgent
from eot.settings import BudgetSettings
from eot.types import Question
from evaluation import Entrant, Labelled
from topologies import Council, table


class Counted:
    """A scripted agent that notes every prompt that reaches it: what a real model would have been paid for."""

    def __init__(self, name, lines):
        self.name, self.asked = name, []
        self._agent = ScriptedAgent(name, lines)

    async def ask(self, prompt, hear=None):
        self.asked.append(prompt)
        return await self._agent.ask(prompt, hear)


class House:
    """Seats councils of these members; every call goes through a memo, and new ones through the budget."""

    def __init__(self, folder, lines, **caps):
        self.store = CallStore(folder / "calls.sqlite")
        self.bare = {name: Counted(name, said) for name, said in lines.items()}
        self.budget = Budget(BudgetSettings(**caps))

    @property
    def calls(self):
        return {name: len(agent.asked) for name, agent in self.bare.items()}

    def member(self, name):
        return Briefed(Memo(Capped(Checked(self.bare[name]), self.budget), self.store, "print"))

    def entrant(self, name="default", seats=None, salt="", **rules):
        seats = tuple(seats or self.bare)

        async def seat(question):
            return Council(
                agents={seat: self.member(seat) for seat in seats},
                topology="memory",
                hears=table("memory", seats),
                quorum=-(-len(seats) // 2),
                **rules,
            )

        return Entrant(name, seat, {seat: self.member(seat) for seat in seats}, f"{name} {seats} {rules}", salt=salt)


def says(answer):
    return f"I think about it. The answer is {answer}."


def questions(*golds, text="How many?"):
    return [
        Labelled(Question(text=f"{text} ({at})", kind="number", id=f"q{at}"), gold, at) for at, gold in enumerate(golds)
    ]
