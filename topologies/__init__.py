"""Who hears whom, when the exchange stops, and the one loop that runs every topology."""

from topologies.council import Council
from topologies.crowd import json_fault
from topologies.stops import RULES
from topologies.tables import FEWEST_SEATS, TOPOLOGIES, Table, messages_a_round, rounds_to_reach, table
from topologies.workflow import run

__all__ = [
    "FEWEST_SEATS",
    "RULES",
    "TOPOLOGIES",
    "Council",
    "Table",
    "json_fault",
    "messages_a_round",
    "rounds_to_reach",
    "run",
    "table",
]
