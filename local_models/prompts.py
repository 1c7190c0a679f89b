"""What is asked, as the token ids of one tokenizer."""

from __future__ import annotations

from typing import Any

from eot.errors import InputError
from eot.text import fault_in
from local_models.engine import Messages, checked, need_template


def chat_ids(tokenizer: Any, messages: Messages, name: str) -> list[int]:
    """A conversation in the model's own chat template, ready for its reply.

    Raises:
        InputError: a base model, a conversation that the template refuses, or text that no model can read.
    """
    need_template(name, has_one=bool(tokenizer.chat_template))
    from jinja2 import TemplateError  # noqa: PLC0415  (comes with torch)

    try:
        return list(
            tokenizer.apply_chat_template(
                checked(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        )
    except TemplateError as fault:
        raise InputError(f"the chat template of {name} refuses this conversation: {fault}") from fault


def text_ids(tokenizer: Any, prompt: str) -> list[int]:
    """A text to be gone on with, with no template.

    Raises:
        InputError: it is empty, or cannot be encoded.
    """
    if fault := "it is empty" if not prompt else fault_in(prompt):
        raise InputError(f"the prompt cannot be sent: {fault}")
    return list(tokenizer.encode(prompt))
