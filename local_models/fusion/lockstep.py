"""Same vocabulary: all members read the same token at each step, in one batch with a cache a member.

Each step costs the sum of the members' forward passes on one device (on devices of their own they overlap: nothing
here waits until the choice), plus the blend: far under a millisecond at 262,144 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from local_models.decode import choose
from local_models.fusion.pool import Pool
from local_models.fusion.reader import named
from local_models.fusion.request import FusedRequest
from local_models.fusion.trace import tell
from local_models.lane import Lane
from local_models.transformers_engine import TransformersEngine


@torch.inference_mode()
def decode_in_lockstep(
    members: Sequence[TransformersEngine], pool: Pool, requests: Sequence[FusedRequest], size: int
) -> None:
    """Generate for all requests until none goes on. `size`: the ids that all members' heads have."""
    alive = list(requests)
    lanes = [
        Lane(member.model, [request.prompts[place] for request in alive], member.tokenizer.pad_token_id or 0)
        for place, member in enumerate(members)
    ]
    ends = frozenset().union(*(member.ends for member in members))
    while alive:
        logits = [  # B V each, all under way before the first is needed
            named(member.name, lane.logits)[:, :size] for member, lane in zip(members, lanes, strict=True)
        ]
        home = logits[0].device
        logprobs = torch.stack([one.to(home, torch.float32).log_softmax(-1) for one in logits])  # N B V
        fused = pool.fused(logprobs, alive)
        tokens = choose(fused, alive)
        keep = _hand_over(members[0], pool, logprobs, fused, tokens, alive, ends)
        for lane in lanes:
            lane.go_on(tokens, keep)
        pool.keep(keep)
        alive = [alive[row] for row in keep]


def _hand_over(
    main: TransformersEngine,
    pool: Pool,
    logprobs: Tensor,
    fused: Tensor,
    tokens: Tensor,
    requests: Sequence[FusedRequest],
    ends: frozenset[int],
) -> list[int]:
    """Give each request its token; return the places of those that go on."""
    going = []
    for row, (request, token) in enumerate(zip(requests, tokens.tolist(), strict=True)):
        if not request.wanted():
            continue
        told = None
        if count := request.sampling.top_logprobs:
            weights = pool.weights[:, row].tolist()
            told = tell(pool.names, weights, logprobs[:, row], fused[row], token, count, lambda t: main.text([t]))
        if request.take(token, told, ended=token in ends):
            going.append(row)
    return going
