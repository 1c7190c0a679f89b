"""Multi-head mixture of experts: each token is split, and its parts go their own ways."""

from __future__ import annotations

from torch import Tensor, nn

from eot.errors import InputError
from local_models.moe.layer import Mixed, MoELayer


class MultiHeadMoE(nn.Module):
    """x W_head is cut into h sub-tokens of H/h; each is routed by itself; the outputs are joined, and times W_merge.

    Wu et al., "Multi-Head Mixture-of-Experts", 2024 (arXiv 2404.15045). The experts are as wide as a
    sub-token: such a layer cannot be made from a trained model's feed-forward networks.

    Raises:
        InputError: the layer's hidden width times the heads is not `hidden`.
    """

    def __init__(self, hidden: int, heads: int, layer: MoELayer) -> None:
        super().__init__()
        if heads < 1 or heads * layer.sizes.hidden != hidden:
            raise InputError(f"{heads} heads of width {layer.sizes.hidden} are not {hidden} together")
        self.heads, self.layer = heads, layer
        self.split = nn.Linear(hidden, hidden)
        self.merge = nn.Linear(hidden, hidden)
        for linear in (self.split, self.merge):
            nn.init.xavier_uniform_(linear.weight, gain=2**-0.5)

    def forward(self, x: Tensor) -> Mixed:
        """... H to ... H; the route has h rows a token, one after the other."""
        parts = self.split(x).unflatten(-1, (self.heads, -1))  # ... h H/h
        rows = parts.flatten(1, 2) if parts.dim() > 3 else parts.flatten(0, -2)
        y, route = self.layer(rows)
        return Mixed(self.merge(y.reshape(x.shape)), route)
