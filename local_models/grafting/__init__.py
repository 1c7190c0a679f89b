"""Deeper models from the layers of one, or of two of the same shape.

Depth up-scaling (SOLAR, arXiv 2312.15166), block expansion (LLaMA-Pro, arXiv 2401.02415), or any map.
"""

from local_models.grafting.build import Built, build
from local_models.grafting.layer_map import (
    UNTRAINED,
    Layer,
    block_expanded,
    depth_upscaled,
    method_of,
    parse_map,
    said,
)

__all__ = [
    "UNTRAINED",
    "Built",
    "Layer",
    "block_expanded",
    "build",
    "depth_upscaled",
    "method_of",
    "parse_map",
    "said",
]
