"""What chat clients ask behind the user's back: titles, tags, follow-up questions, search queries.

Each is known by the whole shape of its client's own prompt, first words to last. What is only like one is a question:
Open WebUI's prompt for answers from documents begins with "### Task:" too, and a user may ask for a title in any words.
"""

from __future__ import annotations

import re

# Open WebUI's templates (its config.py, 0.6 to 0.12), which end with the chat.
_OPEN_WEBUI = re.compile(
    r"### Task:\n(?:Generate a concise[^\n]{0,40} title |Generate 1-3 broad tags "
    r"|Generate a detailed prompt for am? image |Suggest 3-5 relevant follow-up |Predict 3-5 useful messages "
    r"|Analyze the chat history to determine |You are an autocompletion system\. )"
)
_CHAT, _CHAT_ENDS = "\n<chat_history>\n", ("\n</chat_history>", "</text>  \n#### Output:")
# LibreChat's (its agents package, and before that its own), of which the last comes as the system's only message.
_CONCISE = (
    "Provide a concise, 5-word-or-less title for the conversation, using title case conventions. "
    "Only return the title itself.\n\nConversation:\n"
)
_DETECTED = (
    "Analyze this conversation and provide:\n1. The detected language of the conversation\n"
    "2. A concise title in the detected language (5 words or less, no punctuation or quotation)\n\n"
)
_LIBRECHAT = (
    (_CONCISE, ""),
    (_DETECTED, ""),
    ("Please generate a concise, 5-word-or-less title for the conversation, ", "||>Title:"),
)


def is_background(text: str) -> bool:
    """Searched for, not matched as a whole: a regular expression's way back through a long text takes minutes."""
    ended = text.rstrip()
    if _OPEN_WEBUI.match(text) and _CHAT in text and ended.endswith(_CHAT_ENDS):
        return True
    return any(text.startswith(begins) and ended.endswith(ends) for begins, ends in _LIBRECHAT)
