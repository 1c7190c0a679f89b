"""A fused set as an engine like any other: several models decide each token of one reply together."""

from __future__ import annotations

from collections.abc import Sequence

from eot.errors import InputError
from eot.fusion import ONE_VOCABULARY, FusionSettings
from local_models.batches import Batches
from local_models.engine import Generation, Hear, Messages, Sampling, Trace
from local_models.fusion.across import AcrossVocabularies
from local_models.fusion.request import FusedRequest
from local_models.fusion.same import SameVocabulary
from local_models.fusion.vocabulary import Vocabulary, vocabulary_of
from local_models.prompts import chat_ids, text_ids
from local_models.transformers_engine import TransformersEngine, room


class FusionEngine:
    """An `Engine` of several `members`, which stay the caller's to close.

    `method` is the one in use (what `auto` stood for), `difference` where the members' vocabularies first part, or
    None. A member with weight 0 is never run. Each reads the conversation in its own chat template.

    Raises:
        InputError: the method needs one vocabulary and the members have several, with their first difference.
    """

    def __init__(
        self, members: Sequence[TransformersEngine], settings: FusionSettings, name: str, *, parallel: int = 4
    ) -> None:
        if len(members) != len(settings.members):
            raise InputError(f"{name} has {len(settings.members)} members, and {len(members)} models were given")
        counting = [place for place, share in enumerate(settings.shares) if share > 0]
        self.members = [members[place] for place in counting]
        self.name, self.settings = name, settings
        self.context_tokens = min(member.context_tokens for member in self.members)
        self._shares = [settings.shares[place] for place in counting]
        self._vocabularies = [vocabulary_of(member) for member in self.members]
        self.difference = _difference(self._vocabularies)
        self.method = _method(settings, self.difference)
        self.decoding = self._made(settings)
        self._batches: Batches[FusedRequest] = Batches(name, parallel, self.decoding.decode)

    def _made(self, settings: FusionSettings) -> SameVocabulary | AcrossVocabularies:
        if self.method in ONE_VOCABULARY:
            return SameVocabulary(self.members, self._shares, settings, self.method)
        return AcrossVocabularies(self.members, self._vocabularies, self._shares, settings, self.method)

    @property
    def common(self) -> int:
        """How many pieces of text are one token in every member's vocabulary."""
        return len(set.intersection(*(set(vocabulary.ids) for vocabulary in self._vocabularies)))

    async def generate(
        self, messages: Messages, sampling: Sampling, hear: Hear | None = None, trace: Trace | None = None
    ) -> Generation:
        """As every engine; a member without a chat template is refused by name. `trace` is told of every token."""
        self._batches.refuse_closed()
        prompts = [chat_ids(member.tokenizer, messages, member.name) for member in self.members]
        return await self._told(prompts, sampling, hear, trace)

    async def complete(
        self, prompt: str, sampling: Sampling, hear: Hear | None = None, trace: Trace | None = None
    ) -> Generation:
        self._batches.refuse_closed()
        prompts = [text_ids(member.tokenizer, prompt) for member in self.members]
        return await self._told(prompts, sampling, hear, trace)

    async def close(self) -> None:
        await self._batches.close()

    async def _told(
        self, prompts: list[list[int]], sampling: Sampling, hear: Hear | None, trace: Trace | None
    ) -> Generation:
        rooms = [
            room(ids, member.context_tokens, member.name) for ids, member in zip(prompts, self.members, strict=True)
        ]
        request = FusedRequest(prompts, sampling, min(*rooms, sampling.max_tokens), self.decoding.text)
        return await self._batches.told(request, hear, trace)


def _difference(vocabularies: Sequence[Vocabulary]) -> str | None:
    main, *others = vocabularies
    return next((found for other in others if (found := main.first_difference(other))), None)


def _method(settings: FusionSettings, difference: str | None) -> str:
    if settings.method == "auto":
        return "safe" if difference else "logit"
    if difference and settings.method in ONE_VOCABULARY:
        raise InputError(
            f"{settings.method!r} needs members with one vocabulary, and {difference}; "
            "'safe', 'unite', 'gac' and 'deepen' fuse different ones"
        )
    return settings.method
