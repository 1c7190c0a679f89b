"""The members of one reply, each following the text in its own tokens; one that answers no numbers is dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from torch import Tensor

from eot.errors import CallError
from local_models.fusion.ballot import Ballot, Method, alone
from local_models.fusion.draw import draw, processed
from local_models.fusion.follow import Follower
from local_models.fusion.request import FusedRequest
from local_models.fusion.trace import FusedLogprob, tell
from local_models.fusion.turns import Step
from local_models.fusion.vocabulary import END

_log = logging.getLogger(__name__)
MakeMethod = Callable[[Sequence[int], Sequence[float]], Method]


class LostError(Exception):
    """A member's row was not numbers; it has left the panel, and whoever was at work begins the round again."""


class Panel:
    """`followers`, the main one first, their `shares`, and the `method` for exactly these."""

    def __init__(
        self,
        followers: list[Follower],
        shares: Sequence[float],
        method: Method,
        make: MakeMethod,
        request: FusedRequest,
    ) -> None:
        self.followers, self.shares, self.method, self.request = followers, list(shares), method, request
        self._make, self._places = make, list(range(len(followers)))

    @property
    def main(self) -> Follower:
        return self.followers[0]

    @property
    def is_full(self) -> bool:
        return any(follower.is_full for follower in self.followers)

    def rows(self, follower: Follower, count: int = 1) -> Tensor:
        """A member's last rows, count V+1, on the main member's device.

        Raises:
            LostError: they are not numbers; the member is gone.
            CallError: the same, and it was the last one.
        """
        rows = follower.rows(count)
        if rows.isnan().any():
            self._drop(follower)
        return rows.to(self.main.device)

    def follow(self, follower: Follower) -> None:
        """Let a member read what the main one has written."""
        if follower.family == self.main.family:
            follower.copy(self.main)
        else:
            follower.follow(self.main.text)

    def alone(self, row: Tensor) -> Ballot:
        return alone(self.main.vocabulary, row)

    def probabilities(self, logprobs: Tensor) -> Tensor:
        return processed(logprobs, self.request.temperature, self.request.top_p)

    def draw(self, logprobs: Tensor) -> int:
        if not self.request.temperature:
            return int(logprobs.argmax())
        return self.pick(self.probabilities(logprobs))

    def pick(self, probabilities: Tensor) -> int:
        """Draw with the request's own random numbers; the probabilities need not sum to 1."""
        return draw(probabilities, self.request.draws.random())

    def step(self, ballot: Ballot, place: int) -> Step:
        """A choice as a token of the reply."""
        piece = ballot.pieces[place]
        return Step(piece, self._told(ballot, place), ended=piece == END)

    def _told(self, ballot: Ballot, place: int) -> FusedLogprob | None:
        count = self.request.sampling.top_logprobs
        if not count:
            return None
        voters = len(ballot.members)  # one, where the main member decided alone
        names = [follower.name for follower in self.followers[:voters]]
        return tell(names, self.shares[:voters], ballot.members, ballot.fused, place, count, ballot.shown)

    def _drop(self, follower: Follower) -> None:
        place = self.followers.index(follower)
        remark = f"{follower.name} was dropped: its logits were not numbers"
        self.request.note(remark)
        _log.warning("%s", remark)
        if len(self.followers) == 1:
            raise CallError(f"{follower.name} is the last member, and its logits were not numbers")
        del self.followers[place], self.shares[place], self._places[place]
        self.shares = [share / sum(self.shares) for share in self.shares]
        self.method = self._make(self._places, self.shares)
        raise LostError
