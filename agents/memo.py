"""Every call that was paid for is kept: a run that died asks again only for what it had not got."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sqlite3
from dataclasses import dataclass

from pydantic import ValidationError

from agents.store import CallKey, CallStore
from eot.types import Agent, Delta, Hear, Prompt, Reply

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Memo:
    """Recalls a reply that this run paid for earlier; else asks, and keeps the reply before handing it on.

    `fingerprint` names the model and its sampling: with another model under the same agent name nothing is recalled.
    A prompt without a `run_id` belongs to no run and is not kept. Prompts are never written down, only a digest.
    """

    agent: Agent
    store: CallStore
    fingerprint: str = ""

    @property
    def name(self) -> str:
        return self.agent.name

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        if not prompt.run_id:
            return await self.agent.ask(prompt, hear)
        key = CallKey(prompt.run_id, self.name, prompt.round, self._digest(prompt))
        if reply := await self._recall(key):
            if hear:
                hear(Delta(text=reply.text))
            return reply
        reply = await self.agent.ask(prompt, hear)
        await self._keep(key, reply)
        return reply

    def _digest(self, prompt: Prompt) -> str:
        read = [[message.role, message.content] for message in prompt.messages]
        return hashlib.sha256(json.dumps([self.fingerprint, prompt.seed, read]).encode()).hexdigest()

    async def _recall(self, key: CallKey) -> Reply | None:
        try:
            kept = await asyncio.to_thread(self.store.find, key)
            return Reply.model_validate_json(kept).model_copy(update={"recalled": True}) if kept else None
        except (sqlite3.Error, ValidationError) as fault:
            _log.warning("a kept call of %s cannot be read, it is asked again: %s", self.name, type(fault).__name__)
            return None

    async def _keep(self, key: CallKey, reply: Reply) -> None:
        """A full disk must not cost a reply that was paid for: it is handed on all the same, and the loss told."""
        try:
            await asyncio.to_thread(self.store.put, key, reply.model_dump_json())
        except sqlite3.Error as fault:
            _log.warning("a paid call of %s could not be kept: %s", self.name, fault)
