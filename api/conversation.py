"""A chat's messages as one question: the last thing the user said, with what was said before as its background."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from api.asks import make_question
from api.background import is_background
from eot.errors import QuestionError
from eot.types import Message, Question

LEFT_OUT = "[an image or a file was here: these agents read text only]"

_SPEAKERS = {"user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class Conversation:
    """Messages in order, at most one of them the system's, and that one first."""

    messages: tuple[Message, ...]

    @property
    def is_task(self) -> bool:
        """Whether a chat client asks for a title, tags or follow-up questions, and no human for an answer.

        Such a prompt comes by itself: the only thing that is said, at most with the system's words before it.
        """
        said = [message for message in self.messages if message.role != "system"] or self.messages
        return len(said) == 1 and said[0].role != "assistant" and is_background(said[0].content)

    def question(self, **fields: object) -> Question:
        """The last user message as the question, all others as its context.

        Raises:
            QuestionError: the user said nothing, or the whole is too long or not valid text.
        """
        asked = [at for at, message in enumerate(self.messages) if message.role == "user"]
        if not asked:
            raise QuestionError("there is no message of the user's in it: what is to be answered?")
        before = [message for at, message in enumerate(self.messages) if at != asked[-1]]
        return make_question(text=self.messages[asked[-1]].content, context=_transcript(before), **fields)


def conversation(turns: Iterable[tuple[str, str]]) -> Conversation:
    """(role, text) of each message as a client sent it, in the three roles that every model knows.

    What the system or a developer said is gathered in front; a tool's output is quoted as the user's.
    """
    system, said = [], []
    for role, text in turns:
        if role in ("system", "developer"):
            system.append(text)
        elif role in _SPEAKERS:
            said.append(Message(role="user" if role == "user" else "assistant", content=text))
        else:
            said.append(Message(role="user", content=f"Output of a tool:\n{text}"))
    instructions = "\n\n".join(filter(str.strip, system))
    head = (Message(role="system", content=instructions),) if instructions else ()
    return Conversation((*head, *said))


def _transcript(messages: Iterable[Message]) -> str:
    system = [message.content for message in messages if message.role == "system"]
    turns = [f"{_SPEAKERS[message.role]}: {message.content}" for message in messages if message.role in _SPEAKERS]
    told = ["Instructions for this conversation:", *system] if system else []
    said = ["The conversation so far:", *turns] if turns else []
    return "\n\n".join([*told, *said])
