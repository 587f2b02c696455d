# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Tools of a conversation: how a model writes its calls, and a prompt where its template has none.

A chat template that describes tools has a format for calls, which the model was trained with. For
another one the tools are described in the system message, and calls are asked for in the format of
Hermes and Qwen; earlier calls and their results become text. Pure.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from turns import Conversation

HERMES, LLAMA, MISTRAL = "hermes", "llama", "mistral"
# Signs of calls that no parser here reads: Qwen3-Coder, GLM, Mistral since its tokenizer v11.
OTHERS = ("<function=", "<arg_key>", "[ARGS]", "[CALL_ID]")
CALL, CALL_END = "<tool_call>", "</tool_call>"
RESULT, RESULT_END = "<tool_response>", "</tool_response>"
INSTRUCTION = f"""You can call these functions, each described by a line of JSON:
<tools>
{{tools}}
</tools>
To call one, answer with its name and its arguments as JSON, between these tags:
{CALL}
{{{{"name": "…", "arguments": {{{{…}}}}}}}}
{CALL_END}
If no function helps, answer in words."""


def format_of(template: str) -> str | None:
    """Return the format of calls that a chat template writes; None if there is none known here."""
    if "tools" not in template or any(sign in template for sign in OTHERS):
        return None
    if CALL in template and "arguments" in template:
        return HERMES
    if "[TOOL_CALLS]" in template:
        return MISTRAL
    bare = "<|python_tag|>" in template or '"parameters":' in template
    return LLAMA if bare else None


def as_text(said: Conversation) -> Conversation:
    """Return a conversation without tools and calls: both are text of its messages."""
    messages: list[dict[str, Any]] = []
    for before, message in zip([{}, *said.messages], said.messages, strict=False):
        text = _as_text(message)
        if before.get("role") == message["role"] == "tool":  # results of one turn are one message
            text = {**text, "content": f"{messages.pop()['content']}\n{text['content']}"}
        messages.append(text)
    if said.tools:
        messages = _instructed(messages, said.tools)
    return dataclasses.replace(said, messages=messages, tools=None)


def _instructed(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the messages with the tools in the system message, after what it says."""
    instruction = INSTRUCTION.format(tools="\n".join(map(_line, tools)))
    first, *others = messages
    if first["role"] != "system":
        return [{"role": "system", "content": instruction}, *messages]
    return [{**first, "content": f"{first['content']}\n\n{instruction}"}, *others]


def _as_text(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {"role": "user", "content": f"{RESULT}\n{message['content']}\n{RESULT_END}"}
    calls = [f"{CALL}\n{_line(_called(one))}\n{CALL_END}" for one in message.get("tool_calls", ())]
    if not calls:
        return message
    texts = [message["content"], *calls] if message["content"] else calls
    return {"role": message["role"], "content": "\n".join(texts)}


def _called(call: dict[str, Any]) -> dict[str, Any]:
    return {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
