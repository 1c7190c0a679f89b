"""What the types of all requests share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Asked(BaseModel):
    """A part of a request: parameters that we do not know are let pass, those that we know must be right."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Exact(BaseModel):
    """A part of a request of our own: what we do not know is a slip of the pen, and refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
