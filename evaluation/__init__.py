"""Datasets, baselines and comparisons at equal budget."""
