"""Members with one vocabulary: serial in one batch, or speculative one reply at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eot.fusion import FusionSettings
from local_models.fusion.contrastive import contrastive
from local_models.fusion.cos import speculate
from local_models.fusion.lockstep import decode_in_lockstep
from local_models.fusion.logit import logit
from local_models.fusion.pool import Blend, Pool
from local_models.fusion.power import power
from local_models.fusion.prob import prob
from local_models.fusion.reader import refuse_uncroppable
from local_models.fusion.request import FusedRequest
from local_models.fusion.turns import take_turns
from local_models.transformers_engine import TransformersEngine


class SameVocabulary:
    """Decodes by one of the methods of `ONE_VOCABULARY`; tokens are ids."""

    def __init__(
        self, members: Sequence[TransformersEngine], shares: Sequence[float], settings: FusionSettings, method: str
    ) -> None:
        self._members, self._shares = members, shares
        self._names = [member.name for member in members]
        self._blend, self._draft = _blend(settings, method), settings.draft or 0
        self._size = min(member.model.get_output_embeddings().weight.shape[0] for member in members)
        if self._draft:
            for member in members:
                refuse_uncroppable(member)

    def decode(self, requests: Sequence[FusedRequest]) -> None:
        if not self._draft:
            decode_in_lockstep(self._members, self._pool(len(requests)), requests, self._size)
            return
        take_turns(
            [
                (request, speculate(self._members, self._pool(1), request, self._size, self._draft))
                for request in requests
            ]
        )

    def text(self, tokens: list[int]) -> str:
        return self._members[0].text(tokens)

    def _pool(self, rows: int) -> Pool:
        return Pool(self._names, self._shares, self._blend, rows)


def _blend(settings: FusionSettings, method: str) -> Blend:
    blends: dict[str, Blend] = {
        "logit": logit,
        "prob": prob,
        "power": partial(power, r=settings.r),
        "contrastive": partial(contrastive, alpha=settings.alpha, beta=settings.beta),
    }
    return blends[method]
