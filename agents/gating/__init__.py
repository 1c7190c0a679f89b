"""A gate over questions that picks whom to ask: mixture of experts with whole agents as experts."""

from agents.gating.choose import Balance, top_k, top_p
from agents.gating.examples import Examples, Scored, digests, examples
from agents.gating.gate import READ_CHARACTERS, Gate, Method, Pick, Recipe, fit, load, save

__all__ = [
    "READ_CHARACTERS",
    "Balance",
    "Examples",
    "Gate",
    "Method",
    "Pick",
    "Recipe",
    "Scored",
    "digests",
    "examples",
    "fit",
    "load",
    "save",
    "top_k",
    "top_p",
]
