"""The model that is listed, and what it says that it can do."""

from __future__ import annotations

from openai.types import Model

from forge.device.shared.upstream import ActiveServer
from forge.errors import StepFailedError
from tests.support.gateway_app import Script, running


class Older(Script):
    """A model of an earlier bundle."""

    async def inputs(self, _serving: ActiveServer) -> frozenset[str]:
        return frozenset({"text_input", "max_tokens", "temperature", "top_p", "input_format"})


class Silent(Script):
    """A model whose server does not tell its inputs."""

    async def inputs(self, _serving: ActiveServer) -> frozenset[str]:
        raise StepFailedError("Triton is gone")


def test_a_model_has_its_length_and_what_its_inputs_allow() -> None:
    with running(Script(unsupported="min_p")) as gateway:
        (card,) = gateway.client.get("/v1/models").json()["data"]
        assert gateway.client.get("/v1/models/llm").json() == card
    Model.model_validate(card, strict=True)
    assert (card["id"], card["max_model_len"], card["owned_by"]) == ("llm", 64, "forge")
    assert {"seed", "logprobs", "top_logprobs", "response_format", "stop"} <= {
        *card["supported_parameters"]
    }
    assert "min_p" not in card["supported_parameters"]


def test_a_model_that_makes_calls_has_tools_among_its_parameters() -> None:
    found = []
    for tool_calls in ("hermes", "a format of a later version", None):
        with running(Script(tool_calls=tool_calls)) as gateway:
            card = gateway.client.get("/v1/models/llm").json()
        found.append({"tools", "tool_choice"} <= {*card["supported_parameters"]})
    assert found == [True, False, False]


def test_a_model_of_an_earlier_bundle_can_do_what_it_could() -> None:
    with running(Older(tool_calls=None)) as gateway:
        card = gateway.client.get("/v1/models/llm").json()
    assert card["supported_parameters"] == [
        "max_tokens",
        "n",
        "stop",
        "stream",
        "temperature",
        "top_p",
    ]


def test_a_model_is_listed_also_while_its_server_does_not_tell() -> None:
    with running(Silent()) as gateway:
        (card,) = gateway.client.get("/v1/models").json()["data"]
    assert card["supported_parameters"] is None


def test_a_name_may_have_slashes() -> None:
    with running(Script()) as gateway:
        for name in ("other", "org/other"):
            refused = gateway.client.get(f"/v1/models/{name}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                404,
                "model_not_found",
            )
