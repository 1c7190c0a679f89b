"""Router and experts trained against an attacker, each while the other stands still.

A recipe on any model with our or transformers' mixtures: whoever fools the router has the wrong experts asked, however
robust they are. Alternately: attack, improve all but the router; attack again, improve the router.
Zhang et al., "Robust Mixture-of-Expert Training for CNNs" (AdvMoE), 2023 (arXiv 2308.10110). The attack is projected
gradient descent in the L-infinity ball (Madry et al. 2018, arXiv 1706.06083) on the input or its embeddings; the
paper's TRADES loss is the caller's to give as `loss_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from local_models.moe.parts import Trained, train_only

LossOf = Callable[[Tensor], Tensor]
"""The model's loss, a scalar, on an input."""


@dataclass(frozen=True)
class Attack:
    """x' = x + d, |d| <= `radius` everywhere: `steps` of `rate` along the sign of the loss's gradient, from d = 0."""

    radius: float
    steps: int = 5
    rate: float | None = None

    def __call__(self, loss_of: LossOf, x: Tensor) -> Tensor:
        """The input on which the loss is (nearly) highest, shaped as x, without a graph."""
        rate = 2.5 * self.radius / self.steps if self.rate is None else self.rate
        moved = torch.zeros_like(x)
        for _ in range(self.steps):
            moved.requires_grad_()
            (slope,) = torch.autograd.grad(loss_of(x.detach() + moved), moved)
            moved = (moved.detach() + rate * slope.sign()).clamp(-self.radius, self.radius)
        return x.detach() + moved


def robust_step(
    model: nn.Module, loss_of: LossOf, x: Tensor, optimizer: torch.optim.Optimizer, attack: Attack
) -> dict[Trained, float]:
    """One step of each part under its own attack; the losses that they met. What is frozen stays so.

    The optimizer holds all parameters; one without a gradient stands still, its weight decay included.
    """
    met: dict[Trained, float] = {}
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for part in ("all but the router", "router"):
            train_only(model, part)
            for parameter in frozen:
                parameter.requires_grad_(False)  # noqa: FBT003
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(attack(loss_of, x))
            torch.autograd.backward(loss)
            optimizer.step()
            met[part] = float(loss.detach())
        optimizer.zero_grad(set_to_none=True)
    finally:
        for parameter in learning:
            parameter.requires_grad_()
    return met
