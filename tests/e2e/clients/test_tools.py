"""Tool calls that a client forces, and the answer to their result."""

from __future__ import annotations

import pytest

from tests.e2e.clients.conftest import Device
from tests.support.client_checks import PROGRAMS, is_call

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]

_CALLS = [
    ("openai-python", "tool"), ("openai-python", "tool_required"),
    ("openai-python", "tool_stream"), ("openai-node", "tool"), ("vercel-ai", "tool"),
    ("vercel-ai", "tool_stream"), ("langchain", "tool"), ("langchain", "tool_stream"),
    ("llama-index", "tool"), ("litellm", "tool"), ("haystack", "tool"),
]  # fmt: skip


@pytest.mark.parametrize(("client", "case"), _CALLS)
def test_a_forced_call_names_the_tool_and_has_its_arguments(
    device: Device, client: str, case: str
) -> None:
    assert is_call(device.answers_to(PROGRAMS[client])(case))


@pytest.mark.parametrize(("client", "case"), [
    ("openai-node", "run_tools"), ("vercel-ai", "tool"), ("vercel-ai", "tool_stream"),
    ("openai-agents", "tool"), ("openai-agents", "tool_and_answer"),
])  # fmt: skip
def test_the_client_runs_the_tool(device: Device, client: str, case: str) -> None:
    [city, *_] = device.answers_to(PROGRAMS[client])(case)["called"]
    assert isinstance(city, str)


def test_a_call_has_an_id_and_its_result_is_answered(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("tool")
    assert said["id"]
    assert said["type"] == "function"
    # OpenAI: a forced call by name ends with "stop", vLLM and others say "tool_calls".
    assert said["reason"] in {"tool_calls", "stop"}
    assert said["answer"]
    assert said["after_reason"] in {"stop", "length"}


def test_the_model_may_choose_text_or_a_call(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("tool_auto")
    if said["calls"]:
        assert said["calls"] == ["get_weather"] * len(said["calls"])
        assert said["reason"] == "tool_calls"
    else:
        assert said["text"]
        assert said["reason"] in {"stop", "length"}


def test_langchain_and_the_agents_answer_with_the_result(device: Device) -> None:
    assert device.answers_to(PROGRAMS["langchain"])("tool")["answer"]
    assert device.answers_to(PROGRAMS["openai-agents"])("tool_and_answer")["answer"]
    assert device.answers_to(PROGRAMS["openai-agents"])("tool")["answer"].startswith("Sunny in ")


def test_llm_ends_a_conversation_that_has_tools(device: Device) -> None:
    assert device.answers_to(PROGRAMS["llm"])("tools").strip()


def test_pydantic_ai_offers_two_tools_and_must_get_a_call(device: Device) -> None:
    """Which of the two a small model chooses is its affair; text would be the server's fault."""
    said = device.answers_to(PROGRAMS["pydantic-ai"])("tool")
    ended = said["outcome"]["type"]
    assert ended in {None, "UsageLimitExceeded", "UnexpectedModelBehavior"}
    assert said["called"] or ended is None
