"""Conversations: trees of questions, each answered by one run or more. What was said before goes along as context."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_AROUND = 30
"""Characters on either side of words that were found."""


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

    async def search(self, said: str, limit: int, after: str | None) -> list[tuple[Conversation, str]]:
        """Newest first: those with these words in the title, a question or an answer, whatever their case.

        With each comes what stands around the words, "" where they are in the title or nothing is sought.
        """
        said = " ".join(said.split())
        found: list[tuple[Conversation, str]] = []
        while len(found) < limit and (rows := await self._store.conversations.page(self._owner, 100, after)):
            found += await self._among(rows, said) if said else [(row, "") for row in rows]
            after = rows[-1].id
        return found[:limit]

    async def _among(self, rows: Sequence[Conversation], said: str) -> list[tuple[Conversation, str]]:
        """Answers are read for those only whose title and questions do not have the words, all of them at one go."""
        asked = {row.id: _where_asked(row, said) for row in rows}
        left = [run_id for row in rows if asked[row.id] is None for run_id in _runs(row)]
        runs = await self._store.runs.several(left)
        found = []
        for row in rows:
            where = asked[row.id]
            if where is None:
                where = around(said, (self._answer(runs.get(run_id)) for run_id in _runs(row)))
            if where is not None:
                found.append((row, where))
        return found

    def _answer(self, run: RunRow | None) -> str:
        return answer_of(run) if run and run.owner == self._owner else ""

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
        found = await self._store.runs.several(_runs(row))
        return {id_: run for id_, run in found.items() if run.owner == self._owner}


def answer_of(run: RunRow | None) -> str:
    """The text that the vote chose; "" where there is none."""
    return str(run.result["verdict"]["text"]) if run and run.result else ""


def around(said: str, texts: Iterable[str]) -> str | None:
    """The words in the first of these texts that has them, with what stands around them; None where none has."""
    for text in texts:
        flat = " ".join(text.split())
        if found := re.search(re.escape(said), flat, re.IGNORECASE):
            first, last = max(0, found.start() - _AROUND), found.end() + _AROUND
            return f"{'…' if first else ''}{flat[first:last]}{'…' if last < len(flat) else ''}"
    return None


def _where_asked(row: Conversation, said: str) -> str | None:
    if around(said, [row.title]) is not None:
        return ""  # a title is seen anyway
    return around(said, (str(asked.question.get("text", "")) for asked in row.asked))


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
