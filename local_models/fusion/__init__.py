"""Fusion at the logits: several local models decide each token together. Needs the extra `torch`."""

from local_models.fusion.engine import FusionEngine
from local_models.fusion.trace import FusedLogprob, MemberView

__all__ = ["FusedLogprob", "FusionEngine", "MemberView"]
