"""Stop texts, several choices, seeds and log probabilities, as clients read them."""

from __future__ import annotations

import math

import pytest

from tests.e2e.clients.conftest import Device
from tests.support.client_checks import PROGRAMS

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.network]

_STOP = ["openai-python", "openai-node", "vercel-ai", "langchain", "litellm", "haystack"]
_CHOICES = ["openai-node", "langchain", "litellm", "haystack"]
# One alternative at temperature 0: all that OpenVINO tells.
_LOGPROBS = {"openai-python": 1, "openai-node": 1, "langchain": 1, "litellm": 1}


@pytest.mark.parametrize("client", _STOP)
def test_an_answer_ends_before_the_stop_text(device: Device, client: str) -> None:
    said = device.answers_to(PROGRAMS[client])("stop")
    assert "3" in said["text"]
    assert "4" not in said["text"]
    assert said["reason"] == "stop"


def test_a_stopped_answer_is_the_beginning_of_the_whole_and_costs_less(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("stop")
    assert said["whole"].startswith(said["text"])
    assert "4" in said["whole"]
    assert said["tokens"] < said["whole_tokens"]


def test_llama_index_stops(device: Device) -> None:
    assert "4" not in device.answers_to(PROGRAMS["llama-index"])("stop")


@pytest.mark.parametrize("client", _CHOICES)
def test_two_choices_are_two_texts(device: Device, client: str) -> None:
    texts = device.answers_to(PROGRAMS[client])("several_choices")
    assert len(texts) == 2
    assert all(texts)


def test_choices_differ_and_all_their_tokens_are_counted(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("several_choices")
    assert said["indexes"] == [0, 1, 2]
    assert len(set(said["texts"])) > 1, "one answer three times"
    assert said["tokens"] == 3 * 6


def test_a_seed_gives_the_same_text_again_and_another_seed_another(device: Device) -> None:
    first, again, other = device.answers_to(PROGRAMS["openai-python"])("seed")
    assert first == again != other


@pytest.mark.parametrize("client", _LOGPROBS)
def test_log_probabilities_are_of_the_tokens_of_the_answer(device: Device, client: str) -> None:
    said = device.answers_to(PROGRAMS[client])("logprobs")
    assert "".join(said["tokens"]).startswith(said["text"])
    assert said["tops"] == [_LOGPROBS[client]] * len(said["tokens"])


def test_the_chosen_token_is_the_likeliest_at_temperature_0(device: Device) -> None:
    said = device.answers_to(PROGRAMS["openai-python"])("logprobs")
    assert said["logprobs"] == pytest.approx(said["best"], abs=1e-4)
    assert all(one <= 0 for one in said["logprobs"])
    assert math.exp(said["logprobs"][0]) > 0.05, "the likeliest of 49,152 tokens"
    joined = b"".join(bytes(one) for one in said["bytes"]).decode()
    assert joined.startswith(said["text"])


def test_an_echoed_prompt_has_log_probabilities(device: Device) -> None:
    """What lm-eval reads: the first token has none, the others of the prompt have."""
    said = device.answers_to(PROGRAMS["openai-python"])("completion_echo_logprobs")
    assert said["text"].startswith(said["prompt"])
    assert "".join(said["tokens"]) == said["text"]
    assert said["logprobs"][0] is None
    assert all(one <= 0 for one in said["logprobs"][1:])
    assert len(said["logprobs"]) == len(said["tokens"]) == len(said["tops"])
