"""What the types of all requests share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from eot.text import fault_in


class Asked(BaseModel):
    """A part of a request: parameters that we do not know are let pass, those that we know must be right."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


def _is_text(words: dict[str, str]) -> dict[str, str]:
    for word in (word for pair in words.items() for word in pair):
        if said := fault_in(word):
            raise ValueError(said)
    return words


_Key = Annotated[str, StringConstraints(max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[_Key, _Value], Field(max_length=16), AfterValidator(_is_text)]
"""Words of the caller's that come back with the object."""


class Exact(BaseModel):
    """A part of a request of our own: what we do not know is a slip of the pen, and refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
