"""The id of a request in its response and in the log."""

from __future__ import annotations

import logging
import re

import pytest

from forge.errors import StepFailedError
from tests.support.gateway_app import Script, running

HEADER = "X-Request-Id"


@pytest.mark.parametrize(
    "given", ["7", "req_8f:a/b", "0af7651916cd43dd8448eb211c80319c", "a" * 128]
)
@pytest.mark.parametrize("path", ["/health/live", "/v1/models", "/nothing", "/v1/inference"])
def test_a_valid_id_is_given_back_whatever_the_status(path: str, given: str) -> None:
    with running(Script()) as gateway:
        assert gateway.client.get(path, headers={HEADER: given}).headers[HEADER] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "-", 'a"b', "a,b", "{}", "a\tb"])
def test_another_id_is_replaced(given: str) -> None:
    with running(Script()) as gateway:
        found = gateway.client.get("/health/live", headers={HEADER: given}).headers.get_list(HEADER)
    assert len(found) == 1
    assert re.fullmatch("[0-9a-f]{32}", found[0])


def test_every_request_without_one_has_its_own() -> None:
    with running(Script()) as gateway:
        found = {gateway.client.get("/health/live").headers[HEADER] for _ in range(3)}
        body = {"prompt": "a", "stream": True}
        found.add(gateway.client.post("/v1/inference", json=body).headers[HEADER])
    assert len(found) == 4


@pytest.mark.parametrize("pieces", [(), ("a",)], ids=["before a token", "after a token"])
def test_the_log_names_the_request_that_failed(
    caplog: pytest.LogCaptureFixture, pieces: tuple[str, ...]
) -> None:
    script = Script(pieces=pieces, error=StepFailedError("Triton is gone"))
    with caplog.at_level(logging.WARNING), running(script) as gateway:
        body = {"prompt": "a", "stream": True}
        gateway.client.post("/v1/inference", json=body, headers={HEADER: "mine-1"})
    said = [record.getMessage() for record in caplog.records if "mine-1" in record.getMessage()]
    assert len(said) == 1
    assert "Triton is gone" in said[0]
