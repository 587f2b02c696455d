"""Plain and streamed answers, and their usage, as each client gives them to its user."""

from __future__ import annotations

import pytest

from tests.e2e.clients.conftest import Device
from tests.support.client_checks import PROGRAMS, is_usage

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]

_STREAM = [name for name in PROGRAMS if name != "instructor"]
# What shows its user how many pieces came.
_PIECES = [name for name in _STREAM if name != "llm"]
_USAGE = {
    "openai-python": 32, "openai-node": 32, "vercel-ai": 32, "langchain": 32, "llama-index": 32,
    "litellm": 32, "pydantic-ai": 200, "haystack": 32, "openai-agents": 200, "llm": 200,
}  # fmt: skip
_STREAMED_USAGE = ["openai-python", "openai-node", "vercel-ai", "langchain", "litellm"]
_COMPLETION = {
    "openai-python": "completion", "openai-node": "completion", "vercel-ai": "completion",
    "langchain": "completion", "llama-index": "completion", "litellm": "completion",
    "llm": "completion",
}  # fmt: skip


def text_of(value: object) -> str:
    found = value["text"] if isinstance(value, dict) else value
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize("client", PROGRAMS)
def test_a_question_is_answered(device: Device, client: str) -> None:
    assert "Paris" in text_of(device.answers_to(PROGRAMS[client])("chat"))


@pytest.mark.parametrize("client", _STREAM)
def test_a_streamed_answer_is_the_whole_one(device: Device, client: str) -> None:
    answers = device.answers_to(PROGRAMS[client])
    assert text_of(answers("chat_stream")).strip() == text_of(answers("chat")).strip()


@pytest.mark.parametrize("client", _PIECES)
def test_a_streamed_answer_comes_in_pieces(device: Device, client: str) -> None:
    assert device.answers_to(PROGRAMS[client])("chat_stream")["pieces"] > 1


@pytest.mark.parametrize("client", _USAGE)
def test_tokens_of_prompt_and_answer_are_counted(device: Device, client: str) -> None:
    usage = device.answers_to(PROGRAMS[client])("chat")["usage"]
    assert is_usage(usage, at_most=_USAGE[client])


@pytest.mark.parametrize("client", _STREAMED_USAGE)
def test_a_stream_ends_with_the_usage_of_the_same_answer(device: Device, client: str) -> None:
    answers = device.answers_to(PROGRAMS[client])
    streamed, whole = answers("chat_stream")["usage"], answers("chat")["usage"]
    if client in {"openai-python", "openai-node", "litellm"}:
        [streamed] = streamed  # once, and not with every piece
    numbers = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    if isinstance(whole, dict):
        streamed = {name: streamed.get(name) for name in numbers}
        whole = {name: whole.get(name) for name in numbers}
    assert streamed == whole


@pytest.mark.parametrize("client", _COMPLETION)
def test_a_text_is_continued(device: Device, client: str) -> None:
    assert "Paris" in text_of(device.answers_to(PROGRAMS[client])(_COMPLETION[client]))


def test_openai_async_asks_more_than_there_are_places(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("chat_async")
    assert len(said) == 6
    assert all("Paris" in one for one in said)


def test_max_completion_tokens_limits_the_answer(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("max_completion_tokens")
    assert said == {"tokens": 5, "reason": "length"}


def test_several_prompts_are_answered_in_their_order(device: Device) -> None:
    [first, second] = device.answers_to(PROGRAMS["openai-python"])("completions_several_prompts")
    assert (first[0], second[0]) == (0, 1)
    assert "Paris" in first[1]
    assert "Rome" in second[1]


def test_langchain_batches_and_waits_for_its_turn(device: Device) -> None:
    answers = device.answers_to(PROGRAMS["langchain"])
    assert all("Paris" in one for one in answers("batch"))
    assert "Paris" in answers("chat_async")


def test_litellm_takes_the_device_for_a_vllm(device: Device) -> None:
    assert "Paris" in device.answers_to(PROGRAMS["litellm"])("chat_as_vllm")


def test_vercel_ai_takes_the_device_for_openai(device: Device) -> None:
    answers = device.answers_to(PROGRAMS["vercel-ai"])
    assert "Paris" in answers("chat_openai")
    assert answers("chat_openai_stream")["text"].strip() == answers("chat_openai").strip()


def test_llm_keeps_a_conversation_and_a_system_prompt(device: Device) -> None:
    answers = device.answers_to(PROGRAMS["llm"])
    assert "Zebedee" in answers("conversation")
    assert "Paris" in answers("system")


def test_llama_index_streams_a_completion(device: Device) -> None:
    answers = device.answers_to(PROGRAMS["llama-index"])
    assert answers("completion_stream") == answers("completion")


def test_a_reader_that_leaves_its_stream_may_ask_again(device: Device) -> None:
    assert "Paris" in device.answers_to(PROGRAMS["openai-node"])("aborted")


def test_the_model_is_listed(device: Device) -> None:
    python = device.answers_to(PROGRAMS["openai-python"])
    assert python("models") == ["llm"]
    assert python("retrieve_model") == "llm"
    assert device.answers_to(PROGRAMS["openai-node"])("models") == ["llm"]
