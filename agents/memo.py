"""Every call that was paid for is kept: a run that died asks again only for what it had not got."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agents.store import CallKey, Calls
from eot.types import Agent, Delta, Hear, Prompt, Reply

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Memo:
    """Recalls a reply that this run paid for earlier; else asks, and keeps the reply before handing it on.

    `fingerprint` names the model and its sampling: with another model under the same agent name nothing is recalled.
    A prompt without a `run_id` belongs to no run and is not kept. Prompts are never written down, only a digest.
    The same call asked twice at once is paid once; where two processes paid for it, the reply kept first stands.
    """

    agent: Agent
    store: Calls
    fingerprint: str = ""

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        if not prompt.run_id:
            return await self.agent.ask(prompt, hear)
        key = CallKey(prompt.run_id, self.name, prompt.round, self._digest(prompt))
        async with self.store.asking(key):
            kept = await self._find(key)
            if recalled := self._read(kept):
                return _told(recalled, hear)
            reply = await self.agent.ask(prompt, hear)
            standing = self._read(await self._keep(key, reply, kept))
        if standing is None or standing.text == reply.text:
            return reply
        if hear:
            hear(Delta(restart=True))
        return _told(standing, hear)

    def _digest(self, prompt: Prompt) -> str:
        read: list[Any] = [[message.role, message.content] for message in prompt.messages]
        if prompt.options:
            read = [[message.model_dump() for message in prompt.messages], dict(prompt.options)]
        return hashlib.sha256(json.dumps([self.fingerprint, prompt.seed, read]).encode()).hexdigest()

    async def _find(self, key: CallKey) -> str | None:
        try:
            return await asyncio.to_thread(self.store.find, key)
        except self.store.faults as fault:
            self._warn(fault)
            return None

    def _read(self, kept: str | None) -> Reply | None:
        try:
            return Reply.model_validate_json(kept).model_copy(update={"recalled": True}) if kept else None
        except ValidationError as fault:
            self._warn(fault)
            return None

    def _warn(self, fault: Exception) -> None:
        _log.warning("a kept call of %s cannot be read, it is asked again: %s", self.name, type(fault).__name__)

    async def _keep(self, key: CallKey, reply: Reply, unreadable: str | None) -> str | None:
        """A full disk must not cost a reply that was paid for: it is handed on all the same, and the loss told."""
        try:
            return await asyncio.to_thread(self.store.put, key, reply.model_dump_json(), unreadable)
        except self.store.faults as fault:
            _log.warning("a paid call of %s could not be kept: %s", self.name, fault)
            return None


def _told(reply: Reply, hear: Hear | None) -> Reply:
    if hear:
        hear(Delta(text=reply.text))
    return reply
