"""One request to a fused set, and what its decoding needs beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from local_models.engine import Sampling
from local_models.request import Request


class FusedRequest(Request[Any]):
    """`prompts` are the ids that each member reads, in the members' order; `draws` its own random numbers.

    Its tokens are ids where the members share a vocabulary, else pieces of bytes.
    """

    def __init__(
        self,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        limit: int,
        decode: Callable[[list[Any]], str],
    ) -> None:
        super().__init__(sampling, limit, decode, input_tokens=sum(map(len, prompts)))
        self.prompts = prompts
        self.draws = random.Random(sampling.seed)  # noqa: S311  (text, not secrets)

    @property
    def temperature(self) -> float:
        return self.sampling.temperature

    @property
    def top_p(self) -> float:
        return self.sampling.top_p
