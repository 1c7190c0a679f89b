"""Depth up-scaling: a deeper model from the layers of one, or of two of the same shape (SOLAR, arXiv 2312.15166)."""

from local_models.grafting.build import Built, build
from local_models.grafting.layer_map import Layer, block_expanded, depth_upscaled, parse_map, said

__all__ = ["Built", "Layer", "block_expanded", "build", "depth_upscaled", "parse_map", "said"]
