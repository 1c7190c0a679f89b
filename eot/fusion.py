"""The settings of a fused set: which local models decide each token together, by which method, with what weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FusionMethod = Literal["auto", "logit", "prob", "power", "contrastive", "unite", "gac", "deepen", "safe"]
_WEIGHING = {"weights"}
_RELATIVE = {"anchors", "rows", "neighbours", "keep", "floor", "inverse", "iterations", "eta"}
READS: Mapping[str, set[str]] = {
    "logit": _WEIGHING | {"draft"},
    "prob": _WEIGHING | {"draft"},
    "power": _WEIGHING | {"draft", "r"},
    "contrastive": {"draft", "alpha", "beta"},
    "unite": _WEIGHING | {"top_k"},
    "gac": _WEIGHING | {"threshold"},
    "deepen": _WEIGHING | _RELATIVE,
    "safe": _WEIGHING | _RELATIVE | {"draft", "inner", "sharpen", "top_k", "threshold"},
    "auto": _WEIGHING,
}
"""Which keys each method reads: one that would be ignored is refused."""
ONE_VOCABULARY = ("logit", "prob", "power", "contrastive")
"""Methods that need members with one vocabulary."""
ABOUT: Mapping[FusionMethod, str] = {
    "auto": "logit where the members share a vocabulary, else safe",
    "logit": "weighted geometric mean: vetoes what any member rules out",
    "prob": "weighted arithmetic mean: keeps what any member likes",
    "power": "power mean between the two: r = 1 is prob, r = 0 logit",
    "contrastive": "the expert (first member) against the amateur (second)",
    "unite": "arithmetic mean over the union of everybody's top_k tokens (UniTE)",
    "gac": "arithmetic mean over the union of the vocabularies, where the main member is unsure (GaC)",
    "deepen": "mean in the space of common tokens, and back (DeePEn)",
    "safe": "the main member drafts, the others verify, fusion only where they disagree (SAFE)",
}
"""Each method in a few words."""


class FusionSettings(BaseModel):
    """One `[fusions.NAME]` table. The first member is the main one: it drafts, and its tokens are written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    members: tuple[str, ...] = Field(min_length=1, max_length=8)
    """Catalogue names or paths of local models."""
    method: FusionMethod = "auto"
    """`auto`: `logit` where all members share one vocabulary, else `safe`."""
    weights: tuple[float, ...] | None = None
    """One a member, in any unit; unset, all alike. The dev accuracies make DeePEn's "Adapt"."""
    draft: Annotated[int, Field(ge=0, le=64)] | None = None
    """Tokens that the main member writes ahead. Same vocabulary: 0 (serial) unless set; `safe`: 5."""
    r: float = Field(default=0.5, ge=0, le=1)
    """The exponent of `power`: 1 is `prob`, 0 is `logit`."""
    alpha: float = Field(default=0.1, gt=0, le=1)
    """`contrastive`: tokens below alpha times the expert's best are out."""
    beta: float = Field(default=0.5, ge=0, le=100)
    """`contrastive`: how strongly the second member, the amateur, is subtracted."""
    top_k: int = Field(default=10, ge=1, le=1000)
    """`unite`: each member names so many tokens."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """`gac`: where the main member is at least so sure, it decides alone. 1: fuse every token."""
    inner: Literal["unite", "gac", "deepen"] = "unite"
    """`safe`: the method at the tokens where members disagree."""
    sharpen: float = Field(default=0.1, ge=0, lt=1)
    """`safe`: SAFE's lambda, see there; 0 turns it off."""
    anchors: Literal["bytes", "keys"] = "bytes"
    """`deepen`: common tokens by what they write, or by the vocabulary's keys as released."""
    rows: Literal["sparse", "released"] = "sparse"
    """`deepen`: relative representations of a few neighbours, or dense and normalised twice, as released."""
    neighbours: int = Field(default=16, ge=1, le=1024)
    """`deepen`: anchors in a sparse row."""
    keep: int = Field(default=256, ge=1, le=65536)
    """`deepen`: each member's likeliest tokens that are carried over."""
    floor: float = Field(default=1e-3, ge=0, lt=1)
    """`deepen`: tokens less likely than this are left out; anchors only below a hundredth of it."""
    inverse: Literal["em", "adamw"] = "em"
    """`deepen`: how the main vocabulary's distribution is found; `adamw` as released."""
    iterations: int = Field(default=5, ge=1, le=1000)
    """`deepen`: steps of the inverse."""
    eta: float = Field(default=0.15, gt=0, le=100)
    """`deepen`: the learning rate of `adamw`."""

    @field_validator("weights")
    @classmethod
    def _usable(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is None:
            return None
        if wrong := [weight for weight in weights if not (math.isfinite(weight) and weight >= 0)]:
            raise ValueError(f"{wrong[0]} is no weight; write numbers of at least 0")
        if not any(weights):
            raise ValueError("all weights are 0; at least one member must count")
        return weights

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.members):
            raise ValueError(f"{len(self.weights)} weights for {len(self.members)} members; write one for each")
        if ignored := sorted(self.model_fields_set - READS[self.method] - {"members", "method"}):
            read = ", ".join(sorted(READS[self.method]))
            raise ValueError(f"method {self.method!r} does not read {', '.join(ignored)}; it reads {read}")
        if self.method == "contrastive" and len(self.members) != 2:
            raise ValueError("'contrastive' needs two members: the expert first, then the amateur")
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights, summing to 1."""
        given = self.weights or (1.0,) * len(self.members)
        weights = [weight / max(given) for weight in given]  # the sum of large ones may be infinite
        return tuple(weight / sum(weights) for weight in weights)
