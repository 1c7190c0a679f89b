"""Datasets, baselines and comparisons at equal budget."""

from evaluation.datasets import Labelled, read_questions
from evaluation.grading import grade

__all__ = ["Labelled", "grade", "read_questions"]
