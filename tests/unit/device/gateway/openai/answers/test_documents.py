"""The shapes of the answers, held to what the gateway sends."""

from __future__ import annotations

import httpx
import pytest
from pydantic import BaseModel

from forge.device.gateway.config import GatewayConfig
from forge.device.gateway.openai.answers import documents
from tests.support.gateway_app import Script, running

MESSAGES = [{"role": "user", "content": "Hi"}]
ANSWERS: dict[str, tuple[dict[str, object], type[BaseModel]]] = {
    "/v1/chat/completions": ({"messages": MESSAGES}, documents.ChatCompletion),
    "/v1/completions": ({"prompt": "Hi"}, documents.TextCompletion),
    "/v1/responses": ({"input": "Hi"}, documents.ResponseDocument),
}


@pytest.mark.parametrize("path", ANSWERS)
def test_answers_have_the_described_shape_and_no_other_field(path: str) -> None:
    body, shape = ANSWERS[path]
    with running(Script(), GatewayConfig()) as gateway:
        url = f"http://127.0.0.1:{gateway.port}{path}"
        answer = httpx.post(url, json={"model": "llm", **body}, trust_env=False, timeout=20)
        wrong = httpx.post(url, json={"model": "other", **body}, trust_env=False, timeout=20)
    shape.model_validate_json(answer.content)
    documents.Error.model_validate_json(wrong.content)
