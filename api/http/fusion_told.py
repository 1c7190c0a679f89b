"""Fused tokens as they are told outside: OpenAI's log probabilities in both their forms, and the trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from api.http.fusion_types import (
    ChatLogprobs,
    CompletionLogprobs,
    MemberShare,
    MemberTrace,
    TokenLogprobs,
    TopToken,
    TracedToken,
)
from local_models import TokenLogprob

if TYPE_CHECKING:
    from local_models.fusion import FusedLogprob

_LEAST = -9999.0
"""What OpenAI writes for a token that is out of the question: JSON has no infinity."""


def traced(told: Iterable[TokenLogprob], count: int) -> list[TracedToken]:
    """Each token with so many of the likeliest, everybody's own among them."""
    return [
        TracedToken(
            token=one.token,
            logprob=_finite(one.logprob),
            top=_tops(one.top, count),
            members=[
                MemberTrace(name=view.name, logprob=_finite(view.logprob), share=view.share, top=_tops(view.top, count))
                for view in one.members
            ],
            won=list(one.won),
        )
        for one in _fused(told)
    ]


def chat_logprobs(told: Iterable[TokenLogprob], count: int) -> ChatLogprobs:
    return ChatLogprobs(
        content=[
            TokenLogprobs(
                token=one.token,
                logprob=_finite(one.logprob),
                bytes=None if "\ufffd" in one.token else list(one.token.encode()),
                top_logprobs=_tops(one.top, count),
                members=_shares(one),
            )
            for one in _fused(told)
        ]
    )


def completion_logprobs(told: Sequence[TokenLogprob], count: int, offset: int = 0) -> CompletionLogprobs:
    """`offset`: characters of the tokens before these."""
    offsets = []
    for one in told:
        offsets.append(offset)
        offset += len(one.token)
    return CompletionLogprobs(
        tokens=[one.token for one in told],
        token_logprobs=[_finite(one.logprob) for one in told],
        # of tokens that read alike, such as parts of a character, the likeliest: it comes first
        top_logprobs=[{token: _finite(logprob) for token, logprob in reversed(one.top[:count])} for one in told],
        text_offset=offsets,
        members=[_shares(one) for one in _fused(told)],
    )


def _shares(one: FusedLogprob) -> list[MemberShare]:
    return [MemberShare(name=view.name, logprob=_finite(view.logprob), share=view.share) for view in one.members]


def _tops(top: Iterable[tuple[str, float]], count: int) -> list[TopToken]:
    found = [TopToken(token=token, logprob=logprob) for token, logprob in top if math.isfinite(logprob)]
    return found[:count]


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)


def _fused(told: Iterable[TokenLogprob]) -> list[FusedLogprob]:
    return [cast("FusedLogprob", one) for one in told]
