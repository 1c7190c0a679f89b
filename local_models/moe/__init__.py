"""Mixtures of experts: the reference layer, and models with experts built, trained and explained."""
