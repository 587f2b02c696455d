"""Errors of the API: their status, Retry-After, and the body in both formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forge.device.gateway.errors import (
    RequestTimeoutError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
    UnsupportedParameterError,
    explain,
    headers_of,
    json_error,
    openai_body,
    openai_error,
    status_of,
)
from forge.errors import ConfigurationError, ForgeError, StepFailedError, UsageError

ROOT = Path(__file__).resolve().parents[4]


def error_of(response: Any) -> Any:
    return json.loads(response.body)["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 422),
        (UnsupportedParameterError("seed"), 400),
        (UnauthorizedError("x"), 401),
        (TooManyRequestsError("x"), 429),
        (ServiceUnavailableError("x"), 503),
        (RequestTimeoutError("x"), 504),
        (StepFailedError("x"), 502),
        (ConfigurationError("x"), 502),
        (ForgeError("x"), 502),
    ],
)
def test_status_is_4xx_for_the_request_and_5xx_for_the_device(
    error: ForgeError, status: int
) -> None:
    assert status_of(error) == status
    assert json_error("/v1/inference", error).status_code == status
    assert json_error("/v1/completions", error).status_code == status


def test_retry_after_is_sent_only_where_a_retry_may_help() -> None:
    assert headers_of(TooManyRequestsError("x", retry_after_s=7)) == {"Retry-After": "7"}
    assert headers_of(TooManyRequestsError("x")) == {}
    assert headers_of(UsageError("x")) == {}
    refused = json_error("/v1/models", ServiceUnavailableError("x", retry_after_s=5))
    assert refused.headers["retry-after"] == "5"
    assert "retry-after" not in json_error("/v1/models", UsageError("x")).headers


def test_forges_own_body_has_the_cause_in_the_message_and_the_hint_apart() -> None:
    error = UsageError("Too long", why="99 tokens", hint="at most 64")
    assert explain(error) == {
        "error": {
            "message": "Too long: 99 tokens",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_value",
            "hint": "at most 64",
        }
    }
    assert error_of(json_error("/v1/inference", UsageError("Too long")))["hint"] == ""


def test_openais_body_has_the_hint_in_the_message() -> None:
    error = UsageError("Too long", why="99 tokens", hint="at most 64")
    assert openai_body(error) == {
        "error": {
            "message": "Too long: 99 tokens (at most 64)",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_value",
        }
    }
    plain = json_error("/v1/completions", UsageError("Too long"))
    assert error_of(plain)["message"] == "Too long"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_openais_type_follows_from_the_status(status: int, kind: str) -> None:
    made: Any = openai_error(status, "x")
    assert made["error"]["type"] == kind


def test_a_status_given_by_hand_decides_the_type_too() -> None:
    """A UsageError of a route that answers 400 or 413 is the caller's fault in both formats."""
    response = json_error("/v1/chat/completions", StepFailedError("x"), 413)
    assert (response.status_code, error_of(response)["type"]) == (413, "invalid_request_error")
    response = json_error("/v1/inference", UsageError("x"), 413)
    assert response.status_code == 413


def test_an_unsupported_parameter_is_named_in_openais_fields() -> None:
    error = UnsupportedParameterError("top_p")
    found = error_of(json_error("/v1/chat/completions", error))
    assert (found["param"], found["code"]) == ("top_p", "unsupported_parameter")
    assert found["type"] == "invalid_request_error"
    assert "top_p" in error_of(json_error("/v1/inference", error))["message"]


def test_the_hint_for_an_unsupported_parameter_names_a_page_that_exists() -> None:
    page = UnsupportedParameterError("top_p").hint.rpartition(" ")[2]
    assert page.endswith(".md")
    assert (ROOT / page).is_file()


@pytest.mark.parametrize(
    ("path", "openai"),
    [
        ("/v1/chat/completions", True),
        ("/v1/completions", True),
        ("/v1/models", True),
        ("/v1/models/llm", True),
        ("/v1/responses", True),
        ("/tokenize", True),
        ("/v1/embeddings", True),
        ("/nothing", True),
        ("/", True),
        ("/v1/inference", False),
        ("/v1/hardware", False),
        ("/health/ready", False),
        ("/metrics", False),
    ],
)
def test_every_path_has_openais_shape_and_forges_own_the_hint_apart(
    path: str, *, openai: bool
) -> None:
    found = error_of(json_error(path, UsageError("x", hint="y")))
    assert {"message", "type", "param", "code"} <= set(found)
    assert found["message"] == ("x (y)" if openai else "x")
    assert ("hint" in found) == (not openai)


@pytest.mark.parametrize(
    "status", [400, 401, 404, 405, 408, 413, 415, 421, 422, 429, *range(500, 505)]
)
def test_every_status_has_a_code(status: int) -> None:
    made = openai_error(status, "x")["error"]
    if status != 501:  # never sent
        assert made["code"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("The prompt has 99 tokens; this model takes at most 64", ("64 tokens", "99 tokens")),
        ("The engine refused the request; a prompt may have at most 64 tokens", ("64 tokens",)),
    ],
)
@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/chat/completions", "messages"),
        ("/v1/completions", "prompt"),
        ("/v1/responses", "input"),
    ],
)
def test_a_prompt_that_is_too_long_is_told_as_openai_tells_it(
    said: str, words: tuple[str, ...], path: str, param: str
) -> None:
    """Clients look for the code, or for "This model's maximum context length is"."""
    error = UsageError("The model refused the request", why=said)
    found = error_of(json_error(path, error, 400))
    assert (found["code"], found["param"]) == ("context_length_exceeded", param)
    assert found["message"].startswith("This model's maximum context length is 64 tokens")
    assert all(one in found["message"] for one in words)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000/v2/models/llm",
        "http://127.0.0.1:9",
        "http://[::1]:1/x",
        "https://localhost",
    ],
)
def test_no_error_shows_an_address_of_this_machine(address: str) -> None:
    error = StepFailedError(f"No answer from {address}", why=f"refused at {address}", hint=address)
    for path in ("/v1/inference", "/v1/chat/completions", "/"):
        text = bytes(json_error(path, error).body).decode()
        assert "127.0.0.1" not in text
        assert "localhost" not in text
        assert "[::1]" not in text
        assert "the model server" in text


@pytest.mark.parametrize(
    ("said", "param", "code"),
    [
        ("top_logprobs: OpenVINO returns one", "top_logprobs", "unsupported_value"),
        ("min_p must be between 0 and 1", "min_p", "invalid_value"),
        ("The prompt is empty", None, "invalid_value"),
        ("colour: unknown", None, "invalid_value"),
    ],
)
def test_a_parameter_that_the_model_refuses_is_named(
    said: str, param: str | None, code: str
) -> None:
    error = UsageError("The model refused the request", why=said)
    found = error_of(json_error("/v1/chat/completions", error, 400))
    assert (found["param"], found["code"]) == (param, code)
