"""OpenAI's own client against the gateway over uvicorn; what Triton says is given by hand."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from forge.device.gateway.api_keys import ApiKeys
from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.errors import StepFailedError, UsageError
from forge.serving.sampling import Sampling
from forge.serving.triton.request import GenerateRequest
from tests.support.gateway_app import Gateway, Script, running, served, wait_for

FUNCTION: Any = {"type": "function", "function": {"name": "f"}}
USER: Any = {"role": "user", "content": "What is the capital of France?"}
KEY = "sk-device"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script: Script) -> Iterator[OpenAI]:
    with served(script) as (made, _):
        yield made


def chat(client: OpenAI, **options: Any) -> Any:
    asked = {"model": "llm", "messages": [USER], **options}
    return client.chat.completions.create(**asked)


def test_a_chat_is_answered_with_usage(client: OpenAI, script: Script) -> None:
    answer = chat(client, max_completion_tokens=8, temperature=0.5)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Paris")
    assert (choice.finish_reason, answer.model) == ("stop", "llm")
    assert answer.id.startswith("chatcmpl-")
    used = answer.usage
    assert (used.prompt_tokens, used.completion_tokens, used.total_tokens) == (5, 2, 7)
    assert script.questions == [
        GenerateRequest("What is the capital of France?", 8, Sampling(temperature=0.5))
    ]


def test_a_chat_is_streamed(client: OpenAI) -> None:
    chunks = list(chat(client, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].delta.content for c in chunks] == ["", "Par", "is", None]
    assert [c.choices[0].finish_reason for c in chunks] == [None, None, None, "stop"]
    assert len({c.id for c in chunks}) == 1
    assert {c.object for c in chunks} == {"chat.completion.chunk"}


def test_a_stream_ends_with_usage_if_asked_and_with_done(client: OpenAI) -> None:
    *_, last = chat(client, stream=True, stream_options={"include_usage": True})
    assert (last.choices, last.usage.total_tokens) == ([], 7)
    body = {"model": "llm", "messages": [USER], "stream": True}
    raw = httpx.post(f"{client.base_url}chat/completions", json=body, trust_env=False)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.text.endswith("data: [DONE]\n\n")


def test_a_conversation_reaches_the_model_as_messages(client: OpenAI, script: Script) -> None:
    before = chat(client).choices[0].message
    chat(
        client,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Fran"}, {"type": "text", "text": "ce?"}],
            },
            before.model_dump(),
            {"role": "user", "content": "And Italy?"},
        ],
    )
    question = script.questions[-1]
    assert question.input_format == "messages"
    assert json.loads(question.text) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "France?"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And Italy?"},
    ]


def test_a_text_is_completed_without_template(client: OpenAI, script: Script) -> None:
    answer = client.completions.create(model="llm", prompt="The capital is", max_tokens=4)
    assert (answer.object, answer.choices[0].text) == ("text_completion", "Paris")
    assert answer.usage is not None
    assert script.questions == [GenerateRequest("The capital is", 4, Sampling(), "raw")]
    chunks = list(client.completions.create(model="llm", prompt=["The capital is"], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Paris"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_end_by_length_is_said() -> None:
    with served(Script(reason="length")) as (client, _):
        assert chat(client).choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_and_the_model(*, stream: bool) -> None:
    script = Script(
        pieces=("one, ", "tw", "o, ", *("three, ",) * 500), pause_s=0.02, unsupported="stop"
    )
    with served(script) as (client, gateway):
        if stream:
            chunks = list(chat(client, stream=True, stop=["two", "never"]))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            answer = chat(client, stop="two")
            text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
            assert answer.usage is None  # the model never told
        assert (text, reason) == ("one, ", "stop")
        assert script.cancelled.wait(5)
        assert gateway.upstream.drain(5) == 0


def test_the_model_is_listed_while_it_serves() -> None:
    with served(Script()) as (client, gateway):
        assert [model.id for model in client.models.list()] == ["llm"]
        assert client.models.retrieve("llm").owned_by == "forge"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4o")
        gateway.upstream.clear("swap")
        assert list(client.models.list()) == []


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"n": 0}, "n", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_p": 1.5}, "top_p", "invalid_value"),
        (
            {"tools": [FUNCTION, {"type": "function"}]},
            "tools[1].function",
            "missing_required_parameter",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]", "unsupported_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        (
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "function", "function": {"name": "g"}},
            },
            "tool_choice",
            "invalid_value",
        ),
        (
            {"tools": [FUNCTION], "extra_body": {"guided_regex": "a"}},
            "structured_outputs",
            "invalid_value",
        ),
        ({"extra_body": {"colour": 1}}, "colour", "unknown_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        (
            {"messages": [USER, {"role": "user", "content": "x" * 100_000}]},
            "messages",
            "invalid_value",
        ),
    ],
)
def test_what_cannot_be_obeyed_is_refused_with_its_name(
    client: OpenAI, script: Script, change: dict[str, Any], param: str | None, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **change)
    error = caught.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.message
    assert script.questions == []


@pytest.mark.parametrize("stream", [False, True])
def test_parameter_that_the_model_does_not_obey_is_refused_by_name(*, stream: bool) -> None:
    script = Script(unsupported="top_p")
    with served(script) as (client, gateway):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, top_p=0.5, temperature=1, stream=stream)
        assert (caught.value.param, caught.value.code) == ("top_p", "unsupported_parameter")
        native = gateway.ask(prompt="a", top_p=0.5, stream=stream)
        assert native.status_code == 400
        assert "top_p is not supported" in native.json()["error"]["message"]
        assert script.questions == []
        assert chat(client, top_p=1, temperature=1).choices[0].message.content == "Paris"


def test_sampling_parameters_reach_the_model_on_every_route(script: Script) -> None:
    with served(script) as (client, gateway):
        chat(client, top_p=0.5, temperature=0.7)
        client.completions.create(model="llm", prompt="a", top_p=0.5, temperature=0.7)
        gateway.ask(prompt="a", top_p=0.5, temperature=0.7)
    wanted = Sampling(temperature=0.7, top_p=0.5)
    assert [question.sampling for question in script.questions] == [wanted] * 3


def test_what_asks_for_nothing_is_taken(client: OpenAI) -> None:
    asked = {"n": 1, "top_p": 1.0, "presence_penalty": 0, "user": "me", "seed": None}
    assert chat(client, **asked).choices[0].message.content == "Paris"


def test_another_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, model="gpt-4o")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": "llm"}'])
def test_a_body_that_is_no_request_is_refused_in_openais_shape(body: bytes) -> None:
    with served(Script()) as (client, _):
        url = f"{client.base_url}chat/completions"
        response = httpx.post(
            url, content=body, headers={"Content-Type": "application/json"}, trust_env=False
        )
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_errors_of_the_device_are_the_clients_exceptions() -> None:
    with served(Script(pieces=(), error=StepFailedError("Triton is gone"))) as (
        client,
        gateway,
    ):
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError, match="Triton is gone"):
                chat(client, stream=stream)
        gateway.upstream.clear("llm 1.1.0 is being activated")
        with pytest.raises(openai.InternalServerError, match="being activated") as caught:
            chat(client)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "5"


def test_what_the_model_refuses_is_a_bad_request() -> None:
    error = UsageError("The prompt has 99 tokens", hint="at most 64")
    with served(Script(pieces=(), error=error)) as (client, _):
        with pytest.raises(openai.BadRequestError, match="99 tokens"):
            chat(client)
        with pytest.raises(openai.BadRequestError, match="max_tokens must be at most 64"):
            chat(client, max_tokens=65)


def test_an_error_inside_a_stream_is_an_exception_after_the_text() -> None:
    with served(Script(error=StepFailedError("Triton ended", why="out of memory"))) as (
        client,
        _,
    ):
        seen: list[str | None] = []
        with pytest.raises(openai.APIError, match="Triton ended: out of memory"):
            seen.extend(chunk.choices[0].delta.content for chunk in chat(client, stream=True))
        assert seen == ["", "Par", "is"]


def test_too_many_are_a_rate_limit() -> None:
    slow = Script(pieces=("x",) * 1000, pause_s=0.05)
    with served(slow, GatewayConfig(queue=QueueRules(per_place=0))) as (client, gateway):
        gateway.limit.set(1, "hot")
        with chat(client, stream=True) as first:
            next(iter(first))
            with pytest.raises(openai.RateLimitError) as caught:
                chat(client)
        assert caught.value.type == "rate_limit_error"
        assert int(caught.value.response.headers["retry-after"]) >= 1


def test_an_answer_beyond_its_time_is_given_up() -> None:
    slow = Script(pieces=("x",) * 1000, pause_s=0.05)
    with served(slow, GatewayConfig(limit_s=0.3)) as (client, gateway):
        with pytest.raises(
            openai.InternalServerError, match=r"not complete after 0\.3 s"
        ) as caught:
            chat(client)
        assert caught.value.status_code == 504
        with pytest.raises(openai.APIError, match="not complete"):
            list(chat(client, stream=True))
        response = gateway.ask(prompt="a", stream=True)
        assert (response.status_code, "event: error" in response.text) == (200, True)
        assert gateway.upstream.drain(5) == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_cancels_the_answer(path: str, *, stream: bool) -> None:
    script = Script(pieces=("x",) * 1000, pause_s=0.05)
    with running(script) as gateway:
        asked = {"messages": [USER]} if "chat" in path else {"prompt": "a"}
        leave_after_asking(gateway, path, {"model": "llm", "stream": stream, **asked}, script)
        assert script.cancelled.wait(10)
        assert gateway.upstream.drain(10) == 0


def leave_after_asking(gateway: Gateway, path: str, asked: dict[str, Any], script: Script) -> None:
    body = json.dumps(asked).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        assert wait_for(lambda: bool(script.asked))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_while_it_waits_is_never_asked_for(*, stream: bool) -> None:
    script = Script(pieces=("x",) * 1000, pause_s=0.05)
    with served(script) as (client, gateway):
        gateway.limit.set(1, "hot")
        with chat(client, stream=True) as first:
            next(iter(first))
            with pytest.raises(openai.APITimeoutError):
                chat(client.with_options(timeout=0.3), stream=stream)
            assert wait_for(lambda: gateway.admission.counts.waiting == 0)
        assert wait_for(lambda: gateway.admission.counts.inside == 0)
        assert len(script.asked) == 1


def test_keys_are_asked_for_everywhere_but_at_the_health_checks() -> None:
    keys = ApiKeys((("camera", hashlib.sha256(KEY.encode()).digest()),))
    with served(Script(), key=KEY, keys=keys) as (client, gateway):
        assert chat(client).choices[0].message.content == "Paris"
        for wrong in ("sk-other", hashlib.sha256(KEY.encode()).hexdigest()):
            with pytest.raises(openai.AuthenticationError) as caught:
                chat(client.with_options(api_key=wrong))
            assert caught.value.type == "authentication_error"
            assert wrong not in str(caught.value)
        for path in ("/v1/hardware", "/v1/models", "/nothing"):
            refused = gateway.client.get(path)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert gateway.ask(prompt="a").status_code == 401
        assert gateway.client.get("/health/ready").status_code == 200
        assert gateway.client.get("/health/live").status_code == 200


def test_the_callers_that_share_places_are_the_names_of_the_keys() -> None:
    names = {"sk-a": "camera", "sk-b": "kiosk", "sk-c": "kiosk"}  # one caller with two keys
    keys = ApiKeys(
        tuple((name, hashlib.sha256(key.encode()).digest()) for key, name in names.items())
    )
    script = Script(pieces=("x",) * 1000, pause_s=0.02)
    with served(script, key="sk-b", keys=keys) as (client, gateway), ExitStack() as stack:
        gateway.limit.set(2, "hot")

        def ask(key: str, text: str) -> None:
            messages: Any = [{"role": "user", "content": text}]
            stream = partial(chat, client.with_options(api_key=key), stream=True, messages=messages)
            thread = threading.Thread(target=lambda: stack.enter_context(stream()))
            before = gateway.admission.counts.waiting
            thread.start()
            stack.callback(thread.join)
            assert wait_for(lambda: gateway.admission.counts.waiting > before)

        first, second = (
            chat(client, stream=True),
            chat(client.with_options(api_key="sk-c"), stream=True),
        )
        ask("sk-b", "of a caller that is inside once more")
        ask("sk-a", "of another caller")
        first.close()
        assert wait_for(lambda: len(script.asked) == 3)
        assert script.asked[2][0] == "of another caller"
        second.close()


PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/models",
    "/v1/models/other",
    "/v1/embeddings",
    "/v1/inference",
    "/v1/hardware",
    "/tokenize",
    "/detokenize",
    "/openapi.json",
    "/docs",
    "/health/ready",
    "/metrics",
    "/nothing",
    "/",
]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_every_error_has_openais_shape_on_every_path_and_method(method: str, path: str) -> None:
    keys = ApiKeys((("camera", hashlib.sha256(KEY.encode()).digest()),))
    whole = {"Authorization": f"Bearer {KEY}"}
    sent: list[dict[str, Any]] = [
        {"headers": {}},
        {"headers": whole, "content": b"{", "extra": "application/json"},
        {"headers": whole, "content": b"a=b", "extra": "text/plain"},
        {"headers": whole, "content": b" " * 600_000, "extra": "application/json"},
    ]
    with running(Script(), GatewayConfig(), keys=keys) as gateway:
        for one in sent:
            headers = {**one["headers"], "Content-Type": one.get("extra", "application/json")}
            answer = gateway.client.request(
                method, path, headers=headers, content=one.get("content", b"")
            )
            if answer.status_code < 400:
                continue
            error = answer.json()["error"]
            assert {"message", "type", "param", "code"} <= set(error), answer.text
            assert error["message"]
            assert error["code"]
            assert "127.0.0.1" not in answer.text
            assert "pydantic" not in answer.text


def test_errors_have_their_own_codes() -> None:
    keys = ApiKeys((("camera", hashlib.sha256(KEY.encode()).digest()),))
    with running(Script(), GatewayConfig(), keys=keys) as gateway:
        post = gateway.client.post
        kind = {"Authorization": f"Bearer {KEY}"}
        assert post("/v1/completions", json={}).json()["error"]["code"] == "invalid_api_key"
        wanted = {
            404: (gateway.client.get("/v1/engines", headers=kind), "unknown_url"),
            405: (gateway.client.get("/v1/completions", headers=kind), "method_not_supported"),
            413: (
                post("/v1/completions", headers=kind, content=b" " * 600_000),
                "request_too_large",
            ),
            415: (post("/v1/completions", headers=kind, content=b"{}"), "unsupported_media_type"),
        }
        for status, (answer, code) in wanted.items():
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_page_of_an_allowed_origin_may_use_the_api_and_no_other() -> None:
    keys = ApiKeys((("camera", hashlib.sha256(KEY.encode()).digest()),))
    config = GatewayConfig(cors_origins=("https://app.example.com",))
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    with running(Script(), config, keys=keys) as gateway:

        def preflight(origin: str) -> httpx.Response:
            headers = {**asks, "Origin": origin}
            return gateway.client.options("/v1/chat/completions", headers=headers)

        allowed = preflight("https://app.example.com")
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        other = preflight("https://evil.example.com")
        assert "access-control-allow-origin" not in other.headers
        headers = {"Origin": "https://app.example.com", "Authorization": f"Bearer {KEY}"}
        answer = gateway.client.get("/v1/models", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    with running(Script(), GatewayConfig()) as gateway:
        answer = gateway.client.get("/v1/models", headers={"Origin": "https://app.example.com"})
        assert "access-control-allow-origin" not in answer.headers
