"""The noun of the layer: where each token goes. Routers make a `Route`, capacity trims it, dispatch follows it.

Axes: T tokens, E experts, K choices a token, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from eot.errors import InputError


@dataclass(frozen=True)
class Route:
    """Where T tokens go among E experts, best choice first.

    `logits` T E and `scores` T E (what the router made of them, before any choice) are fp32 or wider. `experts` T K
    holds E where nobody is asked; `weights` T K is what each choice's output is multiplied by. `losses` are already
    weighted. `overflow` counts the choices that a full expert turned away.
    """

    logits: Tensor
    scores: Tensor
    experts: Tensor
    weights: Tensor
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    overflow: int = 0

    @property
    def load(self) -> Tensor:
        """How many tokens each expert serves: E, integers."""
        count = self.scores.shape[-1]
        return torch.bincount(self.experts.flatten(), minlength=count + 1)[:count]

    @property
    def loss(self) -> Tensor:
        """The sum of the router's own losses, to be added to the model's."""
        return sum(self.losses.values(), start=self.logits.new_zeros(()))

    @property
    def violation(self) -> float:
        """MaxVio of DeepSeek-V3: (the highest load - the mean) / the mean; 0 is even. NaN where nobody serves."""
        load = self.load.double()
        return float((load.max() - load.mean()) / load.mean())


class Gate(nn.Module):
    """The router's parameters: `weight` E H, and `noise_weight` E H or `bias` E for the routers that want them.

    The logits are computed in fp32 at least, whatever the experts' dtype (Switch Transformer, section 2.4).
    """

    noise_weight: nn.Parameter | None
    e_score_correction_bias: Tensor | None

    def __init__(self, hidden: int, experts: int, *, noisy: bool = False, biased: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, hidden))
        nn.init.normal_(self.weight, std=0.02)
        self.noise_weight = nn.Parameter(torch.zeros(experts, hidden)) if noisy else None
        # Named as DeepSeek-V3's checkpoints name it: it moves the selection only, and no gradient reaches it.
        self.register_buffer("e_score_correction_bias", torch.zeros(experts) if biased else None)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Gate:  # noqa: FBT001, FBT002  (torch's)
        """What `to` does, but the bias never leaves fp32 for less: its steps of 0.001 are lost in bf16."""
        bias = self.e_score_correction_bias
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch does not say
        if bias is not None and self.e_score_correction_bias is not None:
            moved = self.e_score_correction_bias
            if moved.dtype.itemsize < bias.dtype.itemsize:
                self.e_score_correction_bias = bias.to(moved.device, torch.promote_types(moved.dtype, torch.float32))
        return self

    def logits(self, x: Tensor) -> Tensor:
        """T H to T E.

        Raises:
            InputError: a logit is not a finite number: no router could rank it.
        """
        return finite(_linear(x, self.weight))

    def spread(self, x: Tensor) -> Tensor:
        """The standard deviation of Shazeer's noise, softplus(x W_noise) + 0.01: T H to T E."""
        assert self.noise_weight is not None
        return functional.softplus(_linear(x, self.noise_weight)) + 0.01


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return functional.linear(x.to(wide), weight.to(wide))


def finite(values: Tensor) -> Tensor:
    """What a router ranks, itself.

    Raises:
        InputError: one is not a finite number.
    """
    if not bool(values.isfinite().all()):
        raise InputError("what the router ranks is not all finite numbers; look for NaN in its input or its gate")
    return values


def places(choices: int, factor: float | Fraction, experts: int) -> int:
    """ceil(choices factor / E) with the factor as the decimal that it is written as: 50 times 1.1 over 5 is 11."""
    return math.ceil(choices * exact(factor) / experts)


def exact(factor: float | Fraction) -> Fraction:
    """The decimal that it is written as, not the binary number that is nearest to it."""
    return factor if isinstance(factor, Fraction) else Fraction(str(factor))


class Router(Protocol):
    """One way to choose: frozen data, named after its paper; what it learns lies in the layer's `Gate`.

    `causal`: a token's choice depends on no other token, so that decoding step by step gives what reading at once does.
    `noisy`, `biased`: what it wants of its gate. `most`: the K of its routes for E experts, which every token asks
    unless `varying`: then it is the most, and capacity counts the choices that were made.
    """

    causal: ClassVar[bool]
    noisy: ClassVar[bool]
    biased: ClassVar[bool]
    varying: ClassVar[bool]

    def most(self, experts: int) -> int:
        """The choices of a token.

        Raises:
            InputError: it wants more experts than there are, or none.
        """

    def __call__(self, gate: Gate, x: Tensor, *, training: bool, sequences: int = 1) -> Route:
        """Route T H; the T tokens are `sequences` sequences of equal length, one after the other."""


def refuse_unsound(router: Any) -> None:
    """Look at a router's numbers, whichever they are: its counts (whole numbers), weights, factors and shares.

    Raises:
        InputError: a count is below 1, or another number is negative or not finite.
    """
    for each in fields(router):
        value, least = getattr(router, each.name), int("int" in str(each.type))
        if isinstance(value, int | float) and not least <= value < math.inf:
            raise InputError(f"{type(router).__name__}: {each.name} = {value}: a finite number of {least} or more")


def checked(k: int, experts: int) -> int:
    """K itself.

    Raises:
        InputError: K is not in 1..E.
    """
    if not 1 <= k <= experts:
        raise InputError(f"k = {k}: of {experts} experts 1 to {experts} can be asked for a token")
    return k
