"""Local models: the catalogue and its weights, and the engines that generate with them. Knows nothing of our nouns."""

from local_models.built import all_built, built, place_for
from local_models.catalogue import CATALOGUE, Model, find, own_path
from local_models.engine import Engine, Generation, Sampling, TokenLogprob
from local_models.lending import Lending
from local_models.load import Engines
from local_models.pull import Progress, pull
from local_models.weights import locate, on_disk, remove

__all__ = [
    "CATALOGUE",
    "Engine",
    "Engines",
    "Generation",
    "Lending",
    "Model",
    "Progress",
    "Sampling",
    "TokenLogprob",
    "all_built",
    "built",
    "find",
    "locate",
    "on_disk",
    "own_path",
    "place_for",
    "pull",
    "remove",
]
