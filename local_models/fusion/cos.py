"""The exact speculative ensemble: serial fusion's distribution in fewer serial passes ("CoS").

A token x proposed from q is judged by the fused distribution r: it is accepted with probability min(1, r(x)/q(x)), else
one is drawn from max(0, r - q), normalised. The main member proposes `draft` tokens; every other one reads all that are
pending in a single pass; a token is decided once all members have read up to it. After a fully accepted draft the last
member's next token comes from its own distribution, not from r: it is the next proposal, not an answer. At temperature
0 a proposal is accepted if it is the fused distribution's best.

Fu et al., "Fast Large Language Model Collaborative Decoding via Speculation", ICML 2025 (arXiv 2502.01662). A proposal
is accepted with probability sum_x min(q, r), at least the proposer's weight where the blend is `prob`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from local_models.fusion.draw import draw, processed
from local_models.fusion.pool import Pool
from local_models.fusion.reader import Reader
from local_models.fusion.request import FusedRequest
from local_models.fusion.trace import tell
from local_models.fusion.turns import Step
from local_models.transformers_engine import TransformersEngine


def speculate(
    members: Sequence[TransformersEngine], pool: Pool, request: FusedRequest, size: int, draft: int
) -> Iterator[Step]:
    """Yield the reply's tokens. `pool` has one row; `size`: the ids that all members' heads have."""
    run = _Run(members, pool, request, size)
    while request.wanted():
        for _ in range(draft):
            run.read(0)
            yield from run.settled()
            run.propose(0)
        for member in range(1, len(members)):
            run.read(member)
        yield from run.settled()
        run.propose(len(members) - 1)


class _Run:
    """Pending tokens with the distributions they were drawn from, and each member's log probabilities there.

    rows[i][j] is member i's row (V) at pending place j; a member that has read all has one row more than are pending.
    """

    def __init__(self, members: Sequence[TransformersEngine], pool: Pool, request: FusedRequest, size: int) -> None:
        self._members, self._pool, self._request, self._size = members, pool, request, size
        self._readers = [Reader(member, prompt) for member, prompt in zip(members, request.prompts, strict=True)]
        self._ends = frozenset().union(*(member.ends for member in members))
        self._home = members[0].model.device
        self._pending: list[tuple[int, Tensor]] = []
        self._rows: list[list[Tensor]] = [[] for _ in members]

    def read(self, member: int) -> None:
        """Let a member read all that is pending, in one pass."""
        rows = self._rows[member]
        if missing := len(self._pending) + 1 - len(rows):
            fresh = self._readers[member].rows(missing)[:, : self._size]
            rows += fresh.to(self._home, torch.float32).log_softmax(-1).unbind()

    def propose(self, member: int) -> None:
        """Add a token from one member's own distribution, if it has read all and there is room to read on."""
        rows, place = self._rows[member], len(self._pending)
        over = place and self._pending[-1][0] in self._ends
        if len(rows) <= place or over or any(reader.is_full for reader in self._readers):
            return
        if not self._pool.counts(member) or rows[place].isnan().any():
            return
        own = self._processed(rows[place])
        token = draw(own, self._request.draws.random())
        self._pending.append((token, own))
        for reader in self._readers:
            reader.ids.append(token)

    def settled(self) -> Iterator[Step]:
        """Decide what all members have read up to."""
        while all(self._rows):
            here = torch.stack([rows[0] for rows in self._rows])  # N V
            fused = self._pool.fused(here[:, None], [self._request])[0]  # V
            if not self._request.wanted():
                return
            token = self._decide(self._processed(fused))
            told = None
            if count := self._request.sampling.top_logprobs:
                weights = self._pool.weights[:, 0].tolist()
                told = tell(self._pool.names, weights, here, fused, token, count, lambda t: self._members[0].text([t]))
            yield Step(token, told, token in self._ends)

    def _decide(self, fused: Tensor) -> int:
        """The next token, from the fused distribution (V): the pending one if it stands the test, else another."""
        if self._pending:
            token, own = self._pending[0]
            if self._request.draws.random() * float(own[token]) < float(fused[token]):
                self._pending.pop(0)
                for rows in self._rows:
                    rows.pop(0)
                return token
            fused = (fused - own).clamp(min=0)
        token = draw(fused, self._request.draws.random())
        for reader, rows in zip(self._readers, self._rows, strict=True):
            reader.crop(len(reader.ids) - len(self._pending))
            reader.ids.append(token)
            rows.clear()
        self._pending.clear()
        return token

    def _processed(self, logprobs: Tensor) -> Tensor:
        return processed(logprobs, self._request.temperature, self._request.top_p)
