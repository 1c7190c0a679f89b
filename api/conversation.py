"""A chat's messages as one question: the last thing the user said, with what was said before as its background."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agents.verbatim import in_words
from api.asks import make_question
from api.background import is_background
from eot.errors import QuestionError
from eot.types import Message, Question

LEFT_OUT = "[an image or a file was here: these agents read text only]"

_OUTPUT = "Output of a tool:\n"
_SPEAKERS = {"user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class Conversation:
    """Messages in order, at most one of them the system's, and that one first."""

    messages: tuple[Message, ...]

    @property
    def plain(self) -> tuple[Message, ...]:
        """The same in the three roles that every model knows: what tools were asked and gave is told in words."""
        return tuple(map(_in_words, self.messages))

    @property
    def is_task(self) -> bool:
        """Whether a chat client asks for a title, tags or follow-up questions, and no human for an answer.

        Such a prompt comes by itself: the only thing that is said, at most with the system's words before it.
        """
        said = [message for message in self.messages if message.role != "system"] or self.messages
        return len(said) == 1 and said[0].role != "assistant" and is_background(said[0].content)

    @property
    def transcript(self) -> str:
        """All of it as one text."""
        return _transcript(self.plain)

    def question(self, **fields: object) -> Question:
        """The last user message as the question, all others as its context.

        Raises:
            QuestionError: the user said nothing, or the whole is too long or not valid text.
        """
        messages = self.plain
        asked = [at for at, message in enumerate(messages) if message.role == "user"]
        if not asked:
            raise QuestionError("there is no message of the user's in it: what is to be answered?")
        before = [message for at, message in enumerate(messages) if at != asked[-1]]
        return make_question(text=messages[asked[-1]].content, context=_transcript(before), **fields)


def conversation(turns: Iterable[Message | tuple[str, str]]) -> Conversation:
    """Messages as a client sent them: (role, text) of each, or a Message where tools come into it.

    What the system or a developer said is gathered in front. Calls that follow one another belong to one message.
    """
    system: list[str] = []
    said: list[Message] = []
    for turn in turns:
        message = turn if isinstance(turn, Message) else _message(*turn)
        if message.role == "system":
            system.append(message.content)
        elif message.tool_calls and said and said[-1].role == "assistant":
            calls = (*said[-1].tool_calls, *message.tool_calls)
            text = "\n".join(filter(None, (said[-1].content, message.content)))
            said[-1] = Message(role="assistant", content=text, tool_calls=calls)
        else:
            said.append(message)
    instructions = "\n\n".join(filter(str.strip, system))
    head = (Message(role="system", content=instructions),) if instructions else ()
    return Conversation((*head, *said))


def _message(role: str, text: str) -> Message:
    if role in ("system", "developer"):
        return Message(role="system", content=text)
    if role in _SPEAKERS:
        return Message(role="user" if role == "user" else "assistant", content=text)
    return Message(role="user", content=_OUTPUT + text)


def _in_words(message: Message) -> Message:
    if message.role == "tool":
        return Message(role="user", content=_OUTPUT + message.content)
    if message.tool_calls:
        return Message(role="assistant", content=message.content + in_words(message.tool_calls))
    return message


def _transcript(messages: Iterable[Message]) -> str:
    system = [message.content for message in messages if message.role == "system"]
    turns = [f"{_SPEAKERS[message.role]}: {message.content}" for message in messages if message.role in _SPEAKERS]
    told = ["Instructions for this conversation:", *system] if system else []
    said = ["The conversation so far:", *turns] if turns else []
    return "\n\n".join([*told, *said])
