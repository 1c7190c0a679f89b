"""Causal segment routing: experts are merged, not chosen, once a segment, by what the segment before it said.

A recipe on the layer's own gate, experts and shared expert; its router, capacity and dropout have no part in it. For
segment n of L tokens: w_n = softmax(mean(x of segment n-1) W_g), and its tokens pass one network with the matrices
sum_e w_ne G_e, U_e, D_e. Everything is differentiable and nothing is dropped; a merge reads all experts once, so
segments must be long (256 tokens in the paper).
Zhong et al., "Lory", 2024 (arXiv 2405.03133). Of the first segment, which has none before it, the
experts are mixed evenly here, whatever the paper does, so that no token ever depends on a later one.

Axes: B sequences, N tokens, E experts, H hidden, I inner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from eot.errors import InputError
from local_models.moe.layer import MoELayer


@dataclass(frozen=True)
class Segment:
    """What is carried from call to call, as a KV cache is: the network of this segment, and what was read of it.

    `weights` B E; `gate_up` B 2I H; `down` B H I; `total` B H is the sum of `count` tokens.
    """

    weights: Tensor
    gate_up: Tensor
    down: Tensor
    total: Tensor
    count: int = 0

    def mix(self, x: Tensor) -> Tensor:
        """B N H to B N H."""
        gate, up = (x @ self.gate_up.mT).chunk(2, dim=-1)  # B N I
        return (functional.silu(gate) * up) @ self.down.mT


def segment_routed(layer: MoELayer, x: Tensor, length: int, segment: Segment | None = None) -> tuple[Tensor, Segment]:
    """Mix B N H by segments of `length` tokens, going on from `segment`; also what the next call goes on from.

    Raises:
        InputError: the length is below 1, or a logit of the gate is not finite.
    """
    if length < 1:
        raise InputError(f"segments of {length} tokens: one at least")
    if segment is None:
        even = x.new_full((len(x), layer.sizes.experts), 1 / layer.sizes.experts)
        segment = _merged(layer, even, torch.zeros_like(x[:, 0]))
    out, at = [x[:, :0]], 0
    while at < x.shape[1]:
        piece = x[:, at : at + length - segment.count]
        out.append(segment.mix(piece))
        at += piece.shape[1]
        total, count = segment.total + piece.sum(1), segment.count + piece.shape[1]
        if count == length:
            weights = layer.gate.logits(total / length).softmax(-1).to(x.dtype)  # B E
            segment = _merged(layer, weights, torch.zeros_like(total))
        else:
            segment = Segment(segment.weights, segment.gate_up, segment.down, total, count)
    return layer.with_shared(torch.cat(out, dim=1), x), segment


def _merged(layer: MoELayer, weights: Tensor, total: Tensor) -> Segment:
    own = layer.experts
    gate_up = torch.einsum("be,eih->bih", weights, own.gate_up_proj)
    down = torch.einsum("be,ehi->bhi", weights, own.down_proj)
    return Segment(weights, gate_up, down, total)
