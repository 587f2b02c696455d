"""Requests of OpenAI's API as the model gets them; what is refused, by name and code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import ValidationError

from forge.device.gateway.openai.problems import RequestProblem, problem
from forge.device.gateway.openai.protocol import ChatRequest, CompletionRequest
from forge.serving.sampling import Sampling
from forge.serving.triton.request import GenerateRequest
from tests.support.openai_parameters import (
    NEUTRAL,
    NEUTRAL_CHAT,
    NEUTRAL_COMPLETION,
    USER,
)

EFFECTIVE = {
    "best_of": 2, "logit_bias": {"5": 1}, "echo": True, "suffix": "x", "functions": [{}],
    "function_call": {"name": "f"}, "modalities": ["text", "audio"], "service_tier": "flex",
    "store": True, "audio": {}, "prediction": {}, "reasoning_effort": "low", "verbosity": "low",
    "web_search_options": {}, "use_beam_search": True, "length_penalty": 1.1,
    "stop_token_ids": [1], "skip_special_tokens": False, "spaces_between_special_tokens": False,
    "include_stop_str_in_output": True, "truncate_prompt_tokens": 8, "prompt_logprobs": 0,
    "allowed_token_ids": [1], "bad_words": ["a"], "add_generation_prompt": False,
    "continue_final_message": True, "add_special_tokens": True, "documents": [{}],
    "chat_template": "{{ 1 }}", "chat_template_kwargs": {"enable_thinking": False},
    "priority": 1, "logits_processors": ["a"], "return_token_ids": True, "vllm_xargs": {"a": 1},
}  # fmt: skip


def chat(*messages: Any, **more: Any) -> ChatRequest:
    body = {"model": "llm", "messages": [*(messages or (USER,))], **more}
    return ChatRequest.model_validate_json(json.dumps(body))


def completion(prompt: Any = "France?", **more: Any) -> CompletionRequest:
    body = {"model": "llm", "prompt": prompt, **more}
    return CompletionRequest.model_validate_json(json.dumps(body))


def refused(**more: Any) -> RequestProblem:
    with pytest.raises(ValidationError) as caught:
        chat(**more)
    return problem(caught.value)


@pytest.mark.parametrize("name", [*NEUTRAL, *NEUTRAL_CHAT])
def test_a_neutral_value_changes_nothing_in_a_chat(name: str) -> None:
    body = {**NEUTRAL, **NEUTRAL_CHAT}
    assert chat(**{name: body[name]}).generate_requests() == chat().generate_requests()


@pytest.mark.parametrize("name", [*NEUTRAL, *NEUTRAL_COMPLETION])
def test_a_neutral_value_changes_nothing_in_a_completion(name: str) -> None:
    body = {**NEUTRAL, **NEUTRAL_COMPLETION}
    made = completion(**{name: body[name]})
    assert made.generate_requests() == completion().generate_requests()


def test_all_neutral_values_together_change_nothing() -> None:
    assert chat(**NEUTRAL, **NEUTRAL_CHAT).generate_requests() == chat().generate_requests()


@pytest.mark.parametrize("name", ["use_beam_search", "store", "echo", "skip_special_tokens"])
@pytest.mark.parametrize("value", [0, 1, "false"])
def test_a_truth_value_is_not_a_number_or_text(name: str, value: Any) -> None:
    assert refused(**{name: value}).param == name
    assert refused(length_penalty=True).param == "length_penalty"


@pytest.mark.parametrize("name", EFFECTIVE)
def test_a_value_that_would_change_the_answer_is_refused_by_name(name: str) -> None:
    found = refused(**{name: EFFECTIVE[name]})
    assert (found.param, found.code) == (name, "unsupported_parameter")
    assert found.message.startswith(name)


@pytest.mark.parametrize("name", [*EFFECTIVE, "temperature", "stop", "max_tokens", "stream"])
def test_null_is_as_if_it_were_not_sent(name: str) -> None:
    assert chat(**{name: None}) == chat()


def test_every_name_of_openai_is_known() -> None:
    for module, shape in (
        (chat_create_params, ChatRequest),
        (completion_create_params, CompletionRequest),
    ):
        names = {
            name
            for kind in ("Base", "Streaming", "NonStreaming")
            for name in getattr(module, f"CompletionCreateParams{kind}").__annotations__
        }
        assert names <= {*shape.model_fields, *shape.known}
        assert {*shape.model_fields} & {*shape.known} <= {"top_logprobs"}


def test_one_message_of_the_user_is_plain_text() -> None:
    assert chat().generate_requests() == (GenerateRequest("France?"),)


def test_other_conversations_are_a_list_whose_developer_is_the_system() -> None:
    made = chat({"role": "developer", "content": "Be brief."}, USER).generate_requests()[0]
    assert made.input_format == "messages"
    assert json.loads(made.text) == [{"role": "system", "content": "Be brief."}, USER]
    alone = chat({"role": "system", "content": "Be brief."}).generate_requests()[0]
    assert alone.input_format == "messages"
    turns = chat(USER, {"role": "assistant", "content": "Paris"}).generate_requests()[0]
    assert [one["role"] for one in json.loads(turns.text)] == ["user", "assistant"]


def test_parts_of_text_are_joined_without_a_separator() -> None:
    parts = [{"type": "text", "text": "Fran"}, {"type": "text", "text": "ce?"}]
    assert chat({"role": "user", "content": parts}).generate_requests()[0].text == "France?"


def test_empty_fields_of_an_answer_that_is_sent_back_are_dropped() -> None:
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "Paris",
        "refusal": None,
        "tool_calls": [],
    }
    assert chat(USER, answer) == chat(USER, {"role": "assistant", "content": "Paris"})


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "critic", "content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": "x", "colour": "red"}, "messages[0].colour"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages[0].tool_calls[0].id"),
        ("France?", "messages[0]"),
    ],
)
def test_a_message_that_cannot_be_obeyed_is_refused_with_its_place(
    message: Any, param: str
) -> None:
    assert refused(messages=[message]).param == param


@pytest.mark.parametrize(
    "content", [7, {}, [{"type": "image_url", "image_url": {"url": "https://host.example/a.png"}}]]
)
def test_content_that_is_not_text_is_refused(content: Any) -> None:
    found = refused(messages=[{"role": "user", "content": content}])
    assert found.code in {"invalid_value", "unsupported_value"}
    assert str(found.param).startswith("messages[0].content")


def test_the_newer_name_of_the_limit_has_precedence() -> None:
    assert chat(max_tokens=5).generate_requests()[0].max_tokens == 5
    assert chat(max_completion_tokens=7).generate_requests()[0].max_tokens == 7
    assert chat(max_tokens=5, max_completion_tokens=7).generate_requests()[0].max_tokens == 7
    assert completion(max_tokens=5).generate_requests()[0].max_tokens == 5


def test_sampling_is_passed_on() -> None:
    wanted = Sampling(temperature=0.5, top_p=0.9)
    assert chat(temperature=0.5, top_p=0.9).generate_requests()[0].sampling == wanted
    assert completion(temperature=0.5, top_p=0.9).generate_requests()[0].sampling == wanted
    assert chat(USER, USER, temperature=0.5, top_p=0.9).generate_requests()[0].sampling == wanted


@pytest.mark.parametrize("prompt", ["France?", ["France?"]])
def test_a_completion_is_raw_text(prompt: Any) -> None:
    assert completion(prompt).generate_requests()[0] == GenerateRequest(
        "France?", input_format="raw"
    )


@pytest.mark.parametrize(
    ("prompt", "texts", "formats"),
    [
        (["a", "b"], ["a", "b"], {"raw"}),
        ([1, 2], ["[1, 2]"], {"ids"}),
        ([[1], [2, 3]], ["[1]", "[2, 3]"], {"ids"}),
    ],
)
def test_a_prompt_is_texts_or_token_ids(prompt: Any, texts: list[str], formats: set[str]) -> None:
    made = completion(prompt).generate_requests()
    assert [one.text for one in made] == texts
    assert {one.input_format for one in made} == formats


@pytest.mark.parametrize("prompt", [[], [[]], [True], [1, "a"], ["a", [1]], [-1], [1.5], 7, None])
def test_a_prompt_that_is_neither_text_nor_token_ids_is_refused(prompt: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        completion(prompt)
    assert problem(caught.value).param == "prompt"


def test_each_prompt_gets_n_answers_whose_seeds_differ() -> None:
    made = completion(["a", "b"], n=2, seed=7, temperature=1).generate_requests()
    assert [(one.text, one.sampling.seed) for one in made] == [
        ("a", 7),
        ("a", 8),
        ("b", 7),
        ("b", 8),
    ]
    last = completion(n=2, seed=2**63 - 1, temperature=1).generate_requests()[1]
    assert last.sampling.seed == -(2**63)


def test_stop_is_one_string_or_several() -> None:
    assert chat().sampling.stop == ()
    assert chat(stop="a").sampling.stop == ("a",)
    assert chat(stop=["a", "b", "c", "d"]).sampling.stop == ("a", "b", "c", "d")
    for wrong in ("", ["a", ""], ["a"] * 17, "x" * 257, 7):
        assert str(refused(stop=wrong).param).startswith("stop")


def test_what_only_a_draw_uses_is_left_out_where_none_is_made() -> None:
    """A model that has no such input then takes the request too."""
    drawn: dict[str, Any] = {"seed": 1, "top_p": 0.5, "top_k": 3, "min_p": 0.1}
    assert chat(temperature=0, **drawn).sampling == Sampling()
    assert chat(temperature=0.1, **drawn).sampling == Sampling(temperature=0.1, **drawn)


def test_logprobs_of_a_chat_and_of_a_completion_are_one_parameter_of_the_model() -> None:
    assert chat(logprobs=True).sampling.top_logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).sampling.top_logprobs == 3
    assert chat(logprobs=False, top_logprobs=0).sampling.top_logprobs is None
    assert completion(logprobs=0).sampling.top_logprobs == 0
    assert completion(logprobs=3).sampling.top_logprobs == 3


def test_usage_is_wanted_only_where_it_is_asked_for() -> None:
    assert not chat(stream=True).wants_usage
    assert not chat(stream=True, stream_options={"include_obfuscation": True}).wants_usage
    assert chat(stream=True, stream_options={"include_usage": True}).wants_usage


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": "8"},
        {"max_tokens": 0},
        {"max_tokens": 32_769},
        {"max_tokens": 1.5},
        {"max_completion_tokens": -1},
        {"n": True},
        {"n": 0},
        {"n": 129},
        {"logprobs": 0},
        {"top_logprobs": 1},
        {"stream_options": {}},
        {"temperature": 2.1},
        {"stream": "yes"},
        {"stream": 1},
        {"model": 7},
        {"model": "x" * 257},
        {"messages": []},
        {"messages": [USER] * 257},
    ],
)
def test_a_value_of_another_type_or_range_is_invalid(wrong: dict[str, Any]) -> None:
    [name] = wrong
    found = refused(**wrong)
    assert (found.param, found.code) == (name, "invalid_value")
    assert found.message.startswith(f"{name} must ")


def test_the_bound_on_characters_is_on_all_messages_together() -> None:
    half = {"role": "user", "content": "x" * 50_000}
    assert len(chat(half, half).messages) == 2
    found = refused(messages=[half, half, {"role": "user", "content": "y"}])
    assert (found.param, found.code) == ("messages", "invalid_value")
    assert "100000" in found.message


def test_problems_have_openais_codes() -> None:
    found = refused(colour=1)
    assert (found.param, found.code) == ("colour", "unknown_parameter")
    assert "colour" in found.message
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate_json('{"messages": [{"role": "user", "content": "a"}]}')
    found = problem(caught.value)
    assert (found.param, found.code) == ("model", "missing_required_parameter")


@pytest.mark.parametrize("body", ["", "{", "[]", "7", "null"])
def test_a_body_that_is_not_an_object_is_a_problem_of_the_body(body: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate_json(body)
    found = problem(caught.value)
    assert (found.param, found.code) == (None, "invalid_value")
    assert found.message.startswith("The body ")
