"""DeepSeek's two routers, and the arithmetic of fine-grained experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eot.errors import InputError
from local_models.moe import losses
from local_models.moe.routers.route import Gate, Route, checked, finite


@dataclass(frozen=True)
class FineGrained:
    """Routed `experts` of width `inner`, `active` of them a token, and one shared FFN of width `shared`."""

    experts: int
    active: int
    inner: int
    shared: int


def fine_grained(experts: int, active: int, inner: int, *, parts: int, shared: int = 0) -> FineGrained:
    """N experts of width I, K active, as mN of I/m with mK active, of which `shared` are always on: the same FLOPs.

    Dai et al., "DeepSeekMoE", 2024 (arXiv 2401.06066): mN - K_s routed, mK - K_s chosen. Experts that are always on are
    one FFN of their joint width, since the sum of FFNs is the FFN of their neurons put side by side.

    Raises:
        InputError: m does not divide I, or nothing is left to choose.
    """
    if parts < 1 or inner % parts:
        raise InputError(f"m = {parts}: experts of width {inner} cannot be cut into that many equal parts")
    if not 0 <= shared < parts * active:
        raise InputError(f"{shared} shared experts: of {parts * active} active ones one at least must be chosen")
    width = inner // parts
    return FineGrained(parts * experts - shared, parts * active - shared, width, shared * width)


@dataclass(frozen=True)
class DeepSeekMoE:
    """g_i = s_i for the k best of s = softmax(x E'), 0 else; not made to sum to 1. Shared experts are the layer's.

    Losses: `balance` E/(K T) sum_i (times asked) P_i, and over `devices` equal groups of experts `device_balance`.
    Dai et al. 2024 (arXiv 2401.06066), equations 9 to 17.
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    varying: ClassVar[bool] = False
    k: int = 6
    balance: float = 0.001
    devices: int = 1
    device_balance: float = 0.0

    def most(self, experts: int) -> int:
        if experts % self.devices:
            raise InputError(f"{experts} experts cannot be spread evenly over {self.devices} devices")
        return checked(self.k, experts)

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        logits = gate.logits(x)
        scores = logits.softmax(-1)
        weights, experts = scores.topk(self.k, dim=-1)  # T K
        terms = {"balance": self.balance * losses.balance(scores, experts)}
        if self.device_balance:
            terms["device"] = self.device_balance * losses.device_balance(scores, experts, self.devices)
        return Route(logits, scores, experts, weights, terms)


@dataclass(frozen=True)
class DeepSeekV3:
    """s = sigmoid(x E'); the k best of s + b are asked, weighed by `scale` s_i / sum of the chosen s: b only chooses.

    After a step each b_i moves by `speed` sign(mean load - load_i): see `adapt`. With `groups` > 1 only the experts
    of the `kept_groups` groups with the highest sum of their two best s + b stand. Loss: `sequence` times
    `losses.sequence_balance`, small.
    DeepSeek-AI, "DeepSeek-V3", 2024 (arXiv 2412.19437); Wang et al. 2024 (arXiv 2408.15664).
    """

    causal: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    biased: ClassVar[bool] = True
    varying: ClassVar[bool] = False
    k: int = 8
    scale: float = 2.5
    groups: int = 1
    kept_groups: int = 1
    sequence: float = 0.0001
    speed: float = 0.001

    def most(self, experts: int) -> int:
        if experts % self.groups or (self.groups > 1 and experts // self.groups < 2):
            raise InputError(f"{experts} experts cannot be put into {self.groups} equal groups of two or more")
        checked(self.kept_groups, self.groups)
        return checked(self.k, experts * self.kept_groups // self.groups)

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:  # noqa: ARG002
        assert gate.e_score_correction_bias is not None
        logits = gate.logits(x)
        scores = logits.sigmoid()
        ranked = self._standing(finite(scores.detach() + gate.e_score_correction_bias))
        experts = ranked.topk(self.k, dim=-1).indices  # T K
        chosen = scores.gather(-1, experts)
        weights = self.scale * chosen / (chosen.sum(-1, keepdim=True) + 1e-20)
        loss = self.sequence * losses.sequence_balance(scores, experts, sequences)
        return Route(logits, scores, experts, weights, {"sequence": loss})

    def _standing(self, ranked: Tensor) -> Tensor:
        """Those outside the kept groups cannot be chosen: T E to T E."""
        if self.groups == 1:
            return ranked
        grouped = ranked.view(len(ranked), self.groups, -1)  # T G E/G
        best = grouped.topk(2, dim=-1).values.sum(-1).topk(self.kept_groups, dim=-1).indices  # T kept
        stands = torch.zeros(grouped.shape[:2], dtype=torch.bool, device=ranked.device).scatter(1, best, value=True)
        return grouped.masked_fill(~stands[..., None], -torch.inf).view_as(ranked)

    @torch.no_grad()
    def adapt(self, gate: Gate, load: Tensor) -> None:
        """Move the bias against the load (E) of the last step; to be called once after each optimiser step."""
        assert gate.e_score_correction_bias is not None
        wanted = load.to(gate.e_score_correction_bias.dtype)
        gate.e_score_correction_bias += self.speed * (wanted.mean() - wanted).sign()
