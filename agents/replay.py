"""An agent that gives recorded answers: what real models once said, without asking them again."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eot.errors import AnswersError, CallError
from eot.text import clean
from eot.types import Delta, Hear, Prompt, Reply, Usage

_Key = tuple[str, str, int]
"""Speaker, question, round."""


class ReplayAgent:
    """Finds the recorded text by the prompt's question (spacing aside) and round.

    The file is JSONL, gzipped where its name ends in `.gz`. A row is `{"question", "text", "round": 0, "agent"}`,
    where `answer` may stand for `text` and `model` for `agent`; a row may also hold the answers of many models at
    once, `{"question", "candidates": [{"model", "text"}]}`. Where the file names several speakers, this agent
    gives those of its own name; where it names one or none, all of them.
    """

    def __init__(self, name: str, path: Path) -> None:
        """Read the whole file.

        Raises:
            AnswersError: the file cannot be read, a row is wrong, or the file has nothing by this agent.
        """
        self.name, self._path = name, path
        said = dict(_read(path))
        speakers = {speaker for speaker, _, _ in said}
        self._speaker = name if len(speakers) > 1 else next(iter(speakers), "")
        if self._speaker not in speakers:
            known = clean(", ".join(sorted(filter(None, speakers)))) or "nobody"
            raise AnswersError(f"{path} has no answers by {name!r}; it has those of: {known}")
        self._said = {key: text for key, text in said.items() if key[0] == self._speaker}

    async def ask(self, prompt: Prompt, hear: Hear | None = None) -> Reply:
        started = time.perf_counter()
        question = prompt.question or prompt.messages[-1].content
        text = self._said.get((self._speaker, _plain(question), prompt.round))
        if text is None:
            asked = clean(_plain(question)[:80])
            raise CallError(f"{self._path} has no answer of {self.name!r} in round {prompt.round} to: {asked}")
        if hear:
            hear(Delta(text=text))
        return Reply(text=text, usage=Usage(calls=1), seconds=time.perf_counter() - started)


def _read(path: Path) -> Iterator[tuple[_Key, str]]:
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as fault:
        raise AnswersError(f"the recorded answers {path} cannot be read: {fault}") from fault
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield from _row(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as fault:
                right = '{"question": "...", "text": "...", "round": 0, "agent": "..."}'
                this = clean(line[:80])
                raise AnswersError(f"{path}, line {number}: a row looks like {right}; this one: {this}") from fault


def _row(row: Mapping[str, Any]) -> Iterator[tuple[_Key, str]]:
    question = _plain(row["question"])
    for said in row.get("candidates", (row,)):
        text = said["text"] if "text" in said else said["answer"]
        if not isinstance(text, str):
            raise TypeError(text)
        yield (str(said.get("agent") or said.get("model") or ""), question, int(row.get("round", 0))), text


def _plain(text: str) -> str:
    return " ".join(text.split())
