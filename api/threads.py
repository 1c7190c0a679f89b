"""Conversations: trees of questions, each answered by one run or more. What was said before goes along as context."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from api.conversation import conversation
from api.http.errors import ApiError
from api.http.run_types import AskedQuestion, InlineCouncil, RunRequest
from api.native import NativeRuns
from api.runs import Run
from api.store import Asked, Conversation, Store
from api.store import Run as RunRow

MOST_QUESTIONS, MOST_RUNS = 500, 50
_TITLE = 80


class Threads:
    """One owner's conversations; to all others they do not exist."""

    def __init__(self, store: Store, native: NativeRuns, owner: str) -> None:
        self._store, self._native, self._owner = store, native, owner

    async def create(self, title: str) -> Conversation:
        made = Conversation(id=f"conv_{uuid.uuid4().hex}", owner=self._owner, title=title)
        await self._store.conversations.save(made)
        return made

    async def load(self, id_: str) -> Conversation:
        """Raises ApiError where this owner has no such conversation."""
        row = await self._store.conversations.load(id_)
        if row is None or row.owner != self._owner:
            raise ApiError(404, "there is no such conversation", param="conversation_id", code="not_found")
        return row

    async def rename(self, id_: str, title: str) -> Conversation:
        await self.load(id_)
        return await self._changed(id_, title=title)

    async def delete(self, id_: str) -> None:
        """Forget it and its runs; those under way are stopped first."""
        row = await self.load(id_)
        for run_id in _runs(row):
            await self._native.stop(run_id)
            await self._store.runs.delete(run_id)
        await self._store.conversations.delete(id_)

    async def search(self, said: str, limit: int, after: str | None) -> list[Conversation]:
        """Newest first: those with these words in the title, a question or an answer, whatever their case."""
        found: list[Conversation] = []
        while len(found) < limit and (rows := await self._store.conversations.page(self._owner, 100, after)):
            found += [row for row in rows if not said or await self._says(row, said.casefold())]
            after = rows[-1].id
        return found[:limit]

    async def _says(self, row: Conversation, said: str) -> bool:
        texts = [row.title, *(str(asked.question.get("text", "")) for asked in row.asked)]
        if any(said in text.casefold() for text in texts):
            return True
        for run_id in _runs(row):
            if said in answer_of(await self._native.load(run_id, self._owner)).casefold():
                return True
        return False

    async def begin(
        self,
        id_: str,
        *,
        asked: str | None,
        parent: str | None,
        question: AskedQuestion | None,
        gold: str,
        council: str | InlineCouncil,
        seed: int,
    ) -> tuple[Run, Conversation]:
        """Begin a run that answers a new question, or one that was asked before (`asked`) once more.

        Raises:
            ApiError: there is no such conversation, question or parent.
            EotError: the run cannot begin.
        """
        row = await self.load(id_)
        node = _again(row, asked) if asked else _new(row, parent, question, gold)
        before = [await self._turns(row, node.parent), [("user", str(node.question["text"]))]]
        made = conversation(turn for turns in before for turn in turns).question()
        put = AskedQuestion(**{**node.question, "context": made.context})
        run = await self._native.begin(RunRequest(question=put, council=council, seed=seed), owner=self._owner)
        node = node.model_copy(update={"runs": (*node.runs, run.id)})
        return run, await self._with(id_, node)

    async def _turns(self, row: Conversation, run_id: str | None) -> list[tuple[str, str]]:
        """What was said up to the answer of this run."""
        turns: list[tuple[str, str]] = []
        while run_id is not None:
            node = _answered_by(row, run_id)
            answered = answer_of(await self._native.load(run_id, self._owner))
            turns = [("user", str(node.question["text"])), ("assistant", answered or "(no answer)"), *turns]
            run_id = node.parent
        return turns

    async def _with(self, id_: str, node: Asked) -> Conversation:
        """The conversation with this question as it now is. A run that another tab began meanwhile stays."""

        def step(row: Conversation) -> Conversation:
            standing = {asked.id: asked for asked in row.asked}
            runs = dict.fromkeys((*(standing[node.id].runs if node.id in standing else ()), *node.runs))
            standing[node.id] = node.model_copy(update={"runs": tuple(runs)})
            title = row.title or " ".join(str(node.question["text"]).split())[:_TITLE]
            return row.model_copy(update={"asked": tuple(standing.values()), "title": title, "updated": time.time()})

        return await self._stepped(id_, step)

    async def _changed(self, id_: str, **fields: Any) -> Conversation:
        return await self._stepped(id_, lambda row: row.model_copy(update={**fields, "updated": time.time()}))

    async def _stepped(self, id_: str, step: Callable[[Conversation], Conversation]) -> Conversation:
        changed = await self._store.conversations.change(id_, step)
        if changed is None:
            raise ApiError(404, "this conversation was deleted meanwhile", code="not_found")
        return changed

    async def runs(self, row: Conversation) -> Mapping[str, RunRow]:
        """The runs that are still there, by id."""
        loaded = [await self._native.load(run_id, self._owner) for run_id in _runs(row)]
        return {run.id: run for run in loaded if run}


def answer_of(run: RunRow | None) -> str:
    """The text that the vote chose; "" where there is none."""
    return str(run.result["verdict"]["text"]) if run and run.result else ""


def _runs(row: Conversation) -> Sequence[str]:
    return [run_id for asked in row.asked for run_id in asked.runs]


def _again(row: Conversation, asked: str) -> Asked:
    for node in row.asked:
        if node.id == asked:
            if len(node.runs) >= MOST_RUNS:
                raise ApiError(409, f"a question is asked {MOST_RUNS} times at most", code="too_many_runs")
            return node
    raise ApiError(404, "this conversation has no such question", param="asked", code="not_found")


def _new(row: Conversation, parent: str | None, question: AskedQuestion | None, gold: str) -> Asked:
    if question is None:
        raise ApiError(422, "say what is asked: `question`, or `asked` for one that stands here", param="question")
    if len(row.asked) >= MOST_QUESTIONS:
        raise ApiError(409, f"a conversation has {MOST_QUESTIONS} questions at most", code="too_many_questions")
    if parent is not None:
        _answered_by(row, parent)
    put = question.model_dump(mode="json", exclude_none=True, exclude={"context"})
    return Asked(id=f"q_{uuid.uuid4().hex}", parent=parent, question=put, gold=gold)


def _answered_by(row: Conversation, run_id: str) -> Asked:
    for node in row.asked:
        if run_id in node.runs:
            return node
    raise ApiError(404, "no question of this conversation was answered by that run", param="parent", code="not_found")
