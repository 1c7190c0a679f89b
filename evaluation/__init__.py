"""Datasets, grading, statistics, weights from history, votes on recorded answers, and councils beside baselines."""

from evaluation.baselines import BASELINES, systems_of
from evaluation.datasets import Labelled, read_questions
from evaluation.dawid_skene import one_coin_weights
from evaluation.evaluate import DEFAULT_BASELINES, evaluate, write
from evaluation.grading import grade
from evaluation.replay import Replay, replay
from evaluation.results import Results, Row
from evaluation.runner import Progress, Watch, run_systems
from evaluation.statistics import Calibration, Interval, McNemar, accuracy, calibration, difference, mcnemar
from evaluation.summary import Report, summarise
from evaluation.systems import Entrant, Outcome, System, Trial
from evaluation.weights import Answered, static_weights

__all__ = [
    "BASELINES",
    "DEFAULT_BASELINES",
    "Answered",
    "Calibration",
    "Entrant",
    "Interval",
    "Labelled",
    "McNemar",
    "Outcome",
    "Progress",
    "Replay",
    "Report",
    "Results",
    "Row",
    "System",
    "Trial",
    "Watch",
    "accuracy",
    "calibration",
    "difference",
    "evaluate",
    "grade",
    "mcnemar",
    "one_coin_weights",
    "read_questions",
    "replay",
    "run_systems",
    "static_weights",
    "summarise",
    "systems_of",
    "write",
]
