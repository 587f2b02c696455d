"""What a client's user reads when a request is wrong."""

from __future__ import annotations

import pytest

from tests.e2e.clients.conftest import Device
from tests.support.client_checks import PROGRAMS

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]

# Each client's own class for a model that does not exist: it saw 404 and understood the body.
_NOT_FOUND = {
    "openai-python": "NotFoundError", "openai-node": "NotFoundError", "vercel-ai": "APICallError",
    "langchain": "OpenAIModelNotFoundError", "llama-index": "NotFoundError",
    "litellm": "NotFoundError", "instructor": "InstructorRetryException",
    "pydantic-ai": "ModelNotFoundError", "haystack": "NotFoundError",
    "openai-agents": "NotFoundError",
}  # fmt: skip


@pytest.mark.parametrize("client", _NOT_FOUND)
def test_a_model_that_is_not_here_is_the_clients_own_not_found(device: Device, client: str) -> None:
    said = device.answers_to(PROGRAMS[client])("wrong_model")
    assert said["type"] == _NOT_FOUND[client]
    assert "gpt-4o" in said["text"]


def test_llm_prints_why_and_fails(device: Device) -> None:
    said = device.answers_to(PROGRAMS["llm"])("wrong_model")
    assert said["code"] == 1
    assert "gpt-4o" in said["text"]


def test_a_prompt_that_is_too_long_has_openais_code(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("too_long")
    assert said["code"] == "context_length_exceeded"
    assert said["type"] == "invalid_request_error"
    assert "512" in said["text"]


def test_an_image_is_refused_by_that_word(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("image_part")
    assert said["type"] == "BadRequestError"
    assert "image" in said["text"].lower()
    assert "constrained-str" not in said["text"]
