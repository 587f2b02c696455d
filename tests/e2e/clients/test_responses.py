"""The Responses API, which newer clients use without being asked."""

from __future__ import annotations

import pytest

from tests.e2e.clients.conftest import Device
from tests.support.client_checks import PROGRAMS, is_person, is_usage

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]


@pytest.mark.parametrize("client", ["openai-node", "vercel-ai", "openai-agents", "litellm"])
def test_a_question_is_answered(device: Device, client: str) -> None:
    assert "Paris" in device.answers_to(PROGRAMS[client])("responses")


@pytest.mark.parametrize("client", ["openai-python", "langchain"])
def test_a_question_is_answered_and_its_tokens_are_counted(device: Device, client: str) -> None:
    said = device.answers_to(PROGRAMS[client])("responses")
    assert "Paris" in said["text"]
    assert is_usage(said["usage"], at_most=32)


def test_a_stream_has_the_events_of_openai_in_their_order(device: Device) -> None:
    answers = device.answers_to(PROGRAMS["openai-python"])
    said = answers("responses_stream")
    assert said["text"] == answers("responses")["text"]
    assert said["kinds"][0] == "response.created"
    assert said["kinds"][-1] == "response.completed"
    assert said["kinds"].count("response.output_text.delta") > 1
    assert said["kinds"].index("response.output_item.added") < said["kinds"].index(
        "response.output_text.delta"
    )


def test_vercel_ai_streams_it(device: Device) -> None:
    answers = device.answers_to(PROGRAMS["vercel-ai"])
    said = answers("responses_stream")
    assert said["text"].strip() == answers("responses").strip()
    assert said["pieces"] > 1


def test_an_answer_has_the_schema(device: Device) -> None:
    assert is_person(device.answers_to(PROGRAMS["openai-python"])("responses_parsed"))


def test_the_agents_call_a_tool(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-agents"])("responses_tool")
    assert len(said["called"]) == 1
    assert said["answer"] == f"Sunny in {said['called'][0]}"
