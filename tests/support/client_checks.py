"""What is right of a real client's answer, whichever client it is."""

from __future__ import annotations

import json
from typing import Any, Final

from jsonschema import Draft202012Validator

__all__ = ["PROGRAMS", "is_call", "is_person", "is_usage"]

# The clients that chat, by the name that a test shows.
PROGRAMS: Final = {
    "openai-python": "openai/openai_python.py",
    "openai-node": "node/openai_node.mjs",
    "vercel-ai": "node/vercel_ai.mjs",
    "langchain": "langchain/langchain_client.py",
    "llama-index": "llama-index/llama_index_client.py",
    "litellm": "litellm/litellm_client.py",
    "instructor": "langchain/instructor_client.py",
    "pydantic-ai": "openai/pydantic_ai_client.py",
    "haystack": "openai/haystack_client.py",
    "openai-agents": "openai/openai_agents_client.py",
    "llm": "openai/llm_client.py",
}
_PERSON: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
_CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def is_person(value: Any) -> bool:
    """Whether an object, or the JSON text of one, has the schema of tests/clients/cases.py."""
    person = json.loads(value) if isinstance(value, str) else value
    return not list(Draft202012Validator(_PERSON).iter_errors(person))


def is_call(value: dict[str, Any]) -> bool:
    """Whether a call names the tool, and its arguments have the tool's schema."""
    right = not list(Draft202012Validator(_CITY).iter_errors(value["arguments"]))
    return value["name"] == "get_weather" and right


def is_usage(value: Any, *, at_most: int) -> bool:
    """Whether prompt and answer have tokens, no more than allowed, and the total is their sum.

    Args:
        value: {"prompt_tokens", "completion_tokens", "total_tokens"}, the same of the Responses
            API and of LangChain with input and output, or [input, output].
        at_most: the max_tokens of the request.
    """
    if isinstance(value, dict):
        found = dict(value)
        asked = found.get("prompt_tokens", found.get("input_tokens", 0))
        said = found.get("completion_tokens", found.get("output_tokens", 0))
        if found["total_tokens"] != asked + said:
            return False
    else:
        asked, said = value
    # The chat template alone has more tokens than the question's eight words.
    return bool(asked > 8 and 0 < said <= at_most)
