"""Datasets, baselines and comparisons at equal budget."""

from evaluation.baselines import BASELINES, systems_of
from evaluation.datasets import Labelled, read_questions
from evaluation.evaluate import DEFAULT_BASELINES, evaluate, write
from evaluation.grading import grade
from evaluation.results import Results, Row
from evaluation.runner import Progress, Watch, run_systems
from evaluation.summary import Report, summarise
from evaluation.systems import Entrant, Outcome, System, Trial

__all__ = [
    "BASELINES",
    "DEFAULT_BASELINES",
    "Entrant",
    "Labelled",
    "Outcome",
    "Progress",
    "Report",
    "Results",
    "Row",
    "System",
    "Trial",
    "Watch",
    "evaluate",
    "grade",
    "read_questions",
    "run_systems",
    "summarise",
    "systems_of",
    "write",
]
