"""Which requests are answered in front of the router, and which are passed on."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from forge.device.gateway.disconnect import ClientDisconnectedError
from forge.device.gateway.dispatch import InferenceDispatcher
from forge.errors import StepFailedError, UsageError
from tests.support.asgi import Echo, Sent, request, scope_of
from tests.support.gateway_app import Gateway, Script, running


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def gateway(script: Script) -> Iterator[Gateway]:
    with running(script) as made:
        yield made


@pytest.mark.parametrize("path", ["/v1/inference", "/v1/completions"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_any_web_page_may_send_is_refused(
    gateway: Gateway, script: Script, kind: str, path: str
) -> None:
    body = b'{"model": "llm", "prompt": "a"}' if "comp" in path else b'{"prompt": "a"}'
    response = gateway.client.post(path, content=body, headers={"Content-Type": kind})
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]["message"]
    assert script.asked == []


@pytest.mark.parametrize("path", ["/v1/inference", "/v1/chat/completions", "/v1/completions"])
def test_a_question_is_posted(gateway: Gateway, path: str) -> None:
    response = gateway.client.get(path)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST, OPTIONS"
    assert "takes POST" in response.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
@pytest.mark.parametrize("path", ["/v1/inference", "/v1/chat/completions"])
def test_a_compressed_body_is_refused_by_the_name_of_its_coding(
    gateway: Gateway, script: Script, path: str, coding: str
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    response = gateway.client.post(path, content=gzip.compress(b'{"prompt": "a"}'), headers=headers)
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"
    assert coding in response.json()["error"]["message"]
    assert script.asked == []


def test_identity_is_no_coding(gateway: Gateway) -> None:
    headers = {"Content-Encoding": "identity"}
    response = gateway.client.post("/v1/inference", json={"prompt": "a"}, headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/chat/completions", {"POST"}),
        ("/v1/inference", {"POST"}),
        ("/v1/models", {"GET", "HEAD"}),
        ("/health", {"GET", "HEAD"}),
    ],
)
def test_options_says_what_a_path_takes(gateway: Gateway, path: str, allowed: set[str]) -> None:
    response = gateway.client.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert set(response.headers["allow"].split(", ")) == allowed | {"OPTIONS"}


JSON = {"Content-Type": "application/json"}
PATHS = ("/v1/inference", "/v1/completions")


def dispatched(endpoint_raises: Exception | None = None, **scope: Any) -> tuple[Sent, Echo]:
    """What is sent for a request, and the application behind the dispatcher."""

    async def endpoint(asked: Request) -> ASGIApp:
        if endpoint_raises:
            raise endpoint_raises
        return PlainTextResponse(f"answer to {(await asked.body()).decode()}")

    behind = Echo()
    app = InferenceDispatcher(behind, dict.fromkeys(PATHS, endpoint))
    message = {"type": "http.request", "body": b"a", "more_body": False}
    return request(app, scope_of(**{"headers": JSON, **scope}), [message]), behind


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", [
    "application/json", "Application/JSON", "application/json; charset=utf-8",
    "application/json ;x",
])  # fmt: skip
def test_a_post_of_json_is_answered_by_the_endpoint(path: str, kind: str) -> None:
    sent, behind = dispatched(path=path, headers={"Content-Type": kind})
    assert (sent.status, sent.body) == (200, b"answer to a")
    assert behind.calls == 0


@pytest.mark.parametrize("path", ["/", "/v1/inference/", "/v1", "/v1/inference/x", "/metrics"])
def test_any_other_path_is_passed_on_with_its_body(path: str) -> None:
    sent, behind = dispatched(path=path, headers={}, method="PUT")
    assert (sent.body, behind.calls) == (b"a", 1)


def test_what_is_not_http_is_passed_on() -> None:
    _, behind = dispatched(type="lifespan")
    assert behind.calls == 1


@pytest.mark.parametrize("kind", ["application/jsonp", "application/json2", "text/json", "json"])
def test_a_type_that_is_nearly_json_is_refused(kind: str) -> None:
    sent, _ = dispatched(headers={"Content-Type": kind})
    assert sent.status == 415
    assert kind in sent.json()["error"]["message"]


def test_a_long_content_type_is_not_repeated_whole() -> None:
    sent, _ = dispatched(headers={"Content-Type": "x" * 5000})
    assert len(sent.body) < 500


def test_an_error_of_the_endpoint_is_json_in_the_paths_format() -> None:
    sent, _ = dispatched(UsageError("Too long", hint="at most 64"))
    assert sent.status == 422
    error = sent.json()["error"]
    assert (error["message"], error["hint"]) == ("Too long", "at most 64")
    sent, _ = dispatched(StepFailedError("Triton is gone"), path="/v1/completions")
    assert sent.status == 502
    assert sent.json()["error"]["type"] == "server_error"


def test_an_endpoint_whose_client_has_gone_is_not_an_error_of_the_device() -> None:
    sent, _ = dispatched(ClientDisconnectedError())
    assert (sent.status, sent.body) == (499, b"")


def test_a_mistake_of_an_endpoint_is_left_to_the_application() -> None:
    with pytest.raises(ZeroDivisionError):
        dispatched(ZeroDivisionError())
