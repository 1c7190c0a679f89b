"""Members with different vocabularies: each reply on its own, its text as bytes between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eot.fusion import FusionSettings
from local_models.fusion.ballot import Method
from local_models.fusion.deepen import Deepen
from local_models.fusion.follow import Follower
from local_models.fusion.gac import Gac
from local_models.fusion.panel import Panel
from local_models.fusion.reader import refuse_uncroppable
from local_models.fusion.request import FusedRequest
from local_models.fusion.safe import safe
from local_models.fusion.stepwise import stepwise
from local_models.fusion.turns import Step, take_turns
from local_models.fusion.unite import Unite
from local_models.fusion.vocabulary import Vocabulary
from local_models.transformers_engine import TransformersEngine


class AcrossVocabularies:
    """Decodes by `unite`, `gac` or `deepen`, at every token or inside `safe`; tokens are pieces of bytes.

    `method` is the one that all members together use.
    """

    def __init__(
        self,
        members: Sequence[TransformersEngine],
        vocabularies: Sequence[Vocabulary],
        shares: Sequence[float],
        settings: FusionSettings,
        method: str,
    ) -> None:
        for member in members:
            refuse_uncroppable(member)
        self._members, self._vocabularies, self._shares = members, vocabularies, shares
        self._families = [_family(vocabularies, place) for place in range(len(members))]
        self._settings, self._is_safe = settings, method == "safe"
        self._name = settings.inner if self._is_safe else method
        self.method = self._make(range(len(members)), shares)

    def decode(self, requests: Sequence[FusedRequest]) -> None:
        take_turns([(request, self._steps(request)) for request in requests])

    def text(self, pieces: list[bytes]) -> str:
        return b"".join(pieces).decode(errors="replace")

    def _steps(self, request: FusedRequest) -> Iterator[Step]:
        seats = zip(self._members, self._vocabularies, request.prompts, self._families, strict=True)
        panel = Panel([Follower(*seat) for seat in seats], self._shares, self.method, self._make, request)
        if self._is_safe:
            draft = 5 if self._settings.draft is None else max(1, self._settings.draft)
            return safe(panel, draft, self._settings.sharpen)
        return stepwise(panel)

    def _make(self, places: Sequence[int], shares: Sequence[float]) -> Method:
        """The method for the members at these places: all of them, or those that are left."""
        vocabularies = [self._vocabularies[place] for place in places]
        if self._name == "gac":
            return Gac(vocabularies, shares, self._settings.threshold)
        if self._name == "unite":
            return Unite(vocabularies, shares, self._settings.top_k)
        tables = [self._members[place].model.get_input_embeddings().weight.detach() for place in places]
        return Deepen(vocabularies, shares, self._settings, tables)


def _family(vocabularies: Sequence[Vocabulary], place: int) -> int:
    """The first member with the same vocabulary, byte for byte."""
    return next(first for first, one in enumerate(vocabularies) if not one.first_difference(vocabularies[place]))
