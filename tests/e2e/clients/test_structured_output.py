"""Answers that have a schema, in each way in which a client asks for them."""

from __future__ import annotations

import json

import pytest

from tests.e2e.clients.conftest import Device
from tests.support.client_checks import PROGRAMS, is_person

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]

_OBJECTS = [
    ("openai-python", "json_schema"),
    ("openai-python", "parsed"),
    ("openai-python", "json_schema_stream"),
    ("openai-node", "parsed"),
    ("vercel-ai", "generate_object"),
    ("vercel-ai", "stream_object"),
    ("vercel-ai", "output_object"),
    ("langchain", "json_schema"),
    ("langchain", "function_calling"),
    ("llama-index", "structured"),
    ("llama-index", "structured_native"),
    ("litellm", "json_schema"),
    ("litellm", "json_schema_as_vllm"),
    ("instructor", "tools"),
    ("instructor", "tools_strict"),
    ("instructor", "json_schema"),
    ("pydantic-ai", "native_output"),
    ("pydantic-ai", "tool_output"),
    ("haystack", "json_schema"),
    ("openai-agents", "json_schema"),
    ("llm", "json_schema"),
]


@pytest.mark.parametrize(("client", "case"), _OBJECTS)
def test_the_answer_has_the_schema(device: Device, client: str, case: str) -> None:
    assert is_person(device.answers_to(PROGRAMS[client])(case))


@pytest.mark.parametrize(("client", "case"), [("openai-python", "json_object"),
                                              ("langchain", "json_mode")])  # fmt: skip
def test_json_mode_gives_an_object(device: Device, client: str, case: str) -> None:
    assert isinstance(json.loads(device.answers_to(PROGRAMS[client])(case)), dict)


def test_instructor_sees_the_object_grow(device: Device) -> None:
    partial = device.answers_to(PROGRAMS["instructor"])("partial")
    assert partial["parts"] > 1
    assert is_person(partial["last"])
