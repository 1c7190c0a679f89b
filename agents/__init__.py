"""Agents: whatever answers a prompt, and the wrappers that are agents around agents.

The wrappers stand in this order: Briefed(Budgeted(Memo(Deadline(Retry(Metered(Watched(Checked(agent)))))))). So a
recalled reply costs no time and no retry, the deadline covers all attempts, each attempt is paid from the budget and
watched, and an empty reply is watched as such. Importing this package loads no model library: each agent does so at
its first call.
"""

from agents.briefed import Briefed
from agents.budget import Budget
from agents.budgeted import Budgeted, Metered
from agents.capped import Capped
from agents.checked import Checked
from agents.deadline import Deadline
from agents.hosted import HostedAgent, Prices
from agents.local import LocalAgent
from agents.memo import Memo
from agents.mended import Mended
from agents.paced import Paced
from agents.replay import ReplayAgent
from agents.retry import Retry
from agents.scripted import Line, ScriptedAgent
from agents.stoppable import Stoppable, Stopper
from agents.store import Calls, CallStore
from agents.verbatim import Verbatim
from agents.watched import CallRecord, Watched

__all__ = [
    "Briefed",
    "Budget",
    "Budgeted",
    "CallRecord",
    "CallStore",
    "Calls",
    "Capped",
    "Checked",
    "Deadline",
    "HostedAgent",
    "Line",
    "LocalAgent",
    "Memo",
    "Mended",
    "Metered",
    "Paced",
    "Prices",
    "ReplayAgent",
    "Retry",
    "ScriptedAgent",
    "Stoppable",
    "Stopper",
    "Verbatim",
    "Watched",
]
