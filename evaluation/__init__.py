"""Datasets, grading, statistics, weights from history, and votes on recorded answers."""

from evaluation.datasets import Labelled, read_questions
from evaluation.dawid_skene import one_coin_weights
from evaluation.grading import grade
from evaluation.replay import Replay, replay
from evaluation.statistics import Calibration, Interval, McNemar, accuracy, calibration, difference, mcnemar
from evaluation.weights import Answered, static_weights

__all__ = [
    "Answered",
    "Calibration",
    "Interval",
    "Labelled",
    "McNemar",
    "Replay",
    "accuracy",
    "calibration",
    "difference",
    "grade",
    "mcnemar",
    "one_coin_weights",
    "read_questions",
    "replay",
    "static_weights",
]
