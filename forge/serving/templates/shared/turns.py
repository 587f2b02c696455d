# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""What text_input is: one message of the user, a conversation, or text that goes on. Pure.

The optional input `input_format` says which; only a conversation and a message get the chat
template. This file is copied beside the model.py of every template.
"""

from __future__ import annotations

import json
from typing import TypeAlias

FORMATS = ("user", "messages", "raw")
ROLES = ("system", "user", "assistant")

Turns: TypeAlias = "list[dict[str, str]]"  # {"role", "content"}, for the chat template


class RequestError(Exception):
    """This request cannot be served; the next one can."""


def read(text: str, input_format: str = "user") -> Turns | str:
    """Turns for the chat template, or text that is to go on as it is. Raises RequestError."""
    if input_format == "user":
        return [{"role": "user", "content": text}]
    if input_format == "messages":
        return _conversation(text)
    if input_format == "raw":
        return text
    raise RequestError(f"input_format must be one of {', '.join(FORMATS)}")


def without_template(said: Turns | str) -> str:
    """What a model that has no chat template goes on with. Raises RequestError for a talk."""
    if isinstance(said, str):
        return said
    if len(said) == 1 and said[0]["role"] == "user":
        return said[0]["content"]
    raise RequestError("This model has no chat template: send one text, no messages")


def _conversation(text: str) -> Turns:
    try:
        turns = [{"role": one["role"], "content": one["content"]} for one in json.loads(text)]
    except (ValueError, TypeError, KeyError, RecursionError):
        turns = []
    good = all(turn["role"] in ROLES and isinstance(turn["content"], str) for turn in turns)
    if not turns or not good:
        raise RequestError('messages must be a JSON list of {"role", "content"}')
    return turns
