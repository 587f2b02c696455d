# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""What text_input is: the optional input `input_format` says which. Pure.

    user        one message of the user
    messages    JSON: a list of messages, or {"messages": …, "tools": …}
    raw         text that is continued, without template
    ids         JSON: token ids that are continued as they are
    tokens      JSON: token ids to be scored; the answer is the logarithm of each but the first
    score       the same; the answer has the likeliest token in each place too
    tokenize    JSON: {"text", "add_special_tokens"} or {"messages", "add_generation_prompt", …}
    detokenize  JSON: token ids; the answer is their text
    describe    {}; the answer is what the model can do: {"tool_calls": the format of its calls}
    cancel      the request_id of another request

Only a message and a conversation get the chat template. This file is copied beside the model.py of
every template.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEAST_SCORED = 2  # a token and the one before it
ROLES = ("system", "user", "assistant", "tool")
REFUSED = "Refused: "  # so an error begins that is the asker's own; Triton drops codes of errors


class RequestError(Exception):
    """This request cannot be served, and asking again will not help; others can."""

    def __str__(self) -> str:
        """As the client is told."""
        return REFUSED + super().__str__()


@dataclass(frozen=True)
class Conversation:
    """Messages for the chat template.

    Attributes:
        messages: {"role", "content"} and what else OpenAI's API has; arguments of tool calls are
            objects, as templates expect them.
        tools: OpenAI's descriptions of functions; None if there are none.
        add_generation_prompt: whether the prompt ends where the answer begins.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True


@dataclass(frozen=True)
class Ids:
    """Tokens that are continued as they are."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Scored:
    """Tokens whose probabilities are wanted; with `top`, the likeliest ones in their place too."""

    tokens: tuple[int, ...]
    top: bool = False


@dataclass(frozen=True)
class Tokenize:
    """Text or a conversation whose tokens are wanted."""

    said: Conversation | str
    add_special_tokens: bool = True


@dataclass(frozen=True)
class Detokenize:
    """Tokens whose text is wanted."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Describe:
    """What the model can do."""


@dataclass(frozen=True)
class Cancel:
    """The end of another request."""

    request_id: str


Prompt = Conversation | str | Ids
Said = Prompt | Scored | Tokenize | Detokenize | Describe | Cancel


def read(text: str, input_format: str = "user") -> Said:
    """Return what a request is about. Raises RequestError."""
    if input_format not in FORMATS:
        raise RequestError(f"input_format must be one of {', '.join(FORMATS)}")
    return FORMATS[input_format](text)


def without_template(said: Conversation | str) -> str:
    """What a model that has no chat template continues with. Raises RequestError for a talk."""
    if isinstance(said, str):
        return said
    first, *others = said.messages
    if first["role"] == "user" and not others and said.tools is None:
        return str(first["content"])
    raise RequestError("This model has no chat template: send one text, no messages")


def _user(text: str) -> Conversation:
    return Conversation([{"role": "user", "content": text}])


def _conversation(text: str) -> Conversation:
    value = _json(text)
    return _of(value if isinstance(value, dict) else {"messages": value})


def _of(value: dict[str, Any]) -> Conversation:
    messages, tools = value.get("messages"), value.get("tools")
    good = isinstance(messages, list) and messages and all(map(_is_message, messages))
    if not good:
        raise RequestError('messages must be a JSON list of {"role", "content"}')
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(one, dict) for one in tools)
    ):
        raise RequestError("tools must be a JSON list of objects")
    prompt = value.get("add_generation_prompt", True)
    return Conversation([_message(one) for one in messages], tools or None, bool(prompt))


def _is_message(one: Any) -> bool:
    if not isinstance(one, dict) or one.get("role") not in ROLES:
        return False
    if isinstance(one.get("content"), str):
        return True
    return one["role"] == "assistant" and bool(one.get("tool_calls"))


def _message(one: dict[str, Any]) -> dict[str, Any]:
    """Return a message with arguments of tool calls as objects; OpenAI's API sends them as text."""
    message = {"role": one["role"], "content": one.get("content") or ""}
    for name in ("name", "tool_call_id"):
        if isinstance(one.get(name), str):
            message[name] = one[name]
    if one.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in one["tool_calls"]]
    return message


def _call(call: Any) -> dict[str, Any]:
    try:
        function, arguments = call["function"], call["function"].get("arguments", "{}")
        if isinstance(arguments, str):
            arguments = json.loads(arguments or "{}")
        called = {"name": str(function["name"]), "arguments": arguments}
        return {"id": str(call.get("id", "")), "type": "function", "function": called}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise RequestError("tool_calls must be OpenAI's, with arguments that are JSON") from None


def _tokens(text: str, least: int = 1) -> tuple[int, ...]:
    tokens = _json(text)
    good = isinstance(tokens, list) and all(type(one) is int and one >= 0 for one in tokens)
    if not good or len(tokens) < least:
        count = "two token ids" if least == LEAST_SCORED else "one token id"
        raise RequestError(f"tokens must be a JSON list of {count} or more")
    return tuple(tokens)


def _tokenize(text: str) -> Tokenize:
    value = _json(text)
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return Tokenize(value["text"], bool(value.get("add_special_tokens", True)))
    if isinstance(value, dict) and "messages" in value:
        return Tokenize(_of(value))
    raise RequestError('tokenize takes JSON with "text" or "messages"')


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


FORMATS: dict[str, Callable[[str], Said]] = {
    "user": _user,
    "messages": _conversation,
    "raw": str,
    "ids": lambda text: Ids(_tokens(text)),
    "tokens": lambda text: Scored(_tokens(text, LEAST_SCORED)),
    "score": lambda text: Scored(_tokens(text, LEAST_SCORED), top=True),
    "tokenize": _tokenize,
    "detokenize": lambda text: Detokenize(_tokens(text)),
    "describe": lambda _text: Describe(),
    "cancel": Cancel,
}
