"""One declaration of the sampling parameters: API, wire, config.pbtxt and the models agree."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from forge.serving.repository.render import config_pbtxt, templates
from forge.serving.sampling import INPUT_TYPES, Sampling
from forge.serving.triton.request import GenerateRequest
from tests.support.spec import a_spec
from tests.support.templates import TEMPLATES, load

model = load("shared", "sampling")
OUTSIDE: dict[str, tuple[object, ...]] = {
    "temperature": (-0.1, 2.1),
    "top_p": (0.0, -0.5, 1.1),
    "top_k": (-1, 100_001),
    "min_p": (-0.1, 1.1),
    "seed": (),
    "presence_penalty": (-2.1, 2.1),
    "frequency_penalty": (-2.1, 2.1),
    "repetition_penalty": (0.0, -1.0, 10.1),
    "min_tokens": (-1, 32_769),
    "ignore_eos": (),
    "stop": (("",), ("a" * 257,), ("a",) * 17),
    "top_logprobs": (-1, 21),
    "structured_outputs": ({}, {"regex": "a", "choice": ("b",)}, {"yaml": "a"}),
}
INSIDE: dict[str, tuple[object, ...]] = {
    "temperature": (0.0, 0.7, 2.0),
    "top_p": (0.001, 0.5, 1.0),
    "top_k": (0, 1, 100_000),
    "min_p": (0.0, 0.05, 1.0),
    "seed": (None, -(2**63), 2**63 - 1),
    "presence_penalty": (-2.0, 0.5, 2.0),
    "frequency_penalty": (-2.0, 0.5, 2.0),
    "repetition_penalty": (0.001, 1.1, 10.0),
    "min_tokens": (0, 5, 32_768),
    "ignore_eos": (False, True),
    "stop": ((), ("a", "é" * 256)),
    "top_logprobs": (None, 0, 20),
    "structured_outputs": (None, {"regex": "a+"}),
}
JSON_TEXT = ("stop", "structured_outputs")


def test_models_declare_the_same_parameters_and_defaults() -> None:
    declared = {field.name: field.default for field in fields(model.Sampling)}
    assert declared == {name: field.default for name, field in Sampling.model_fields.items()}
    assert set(declared) == set(INSIDE) == set(OUTSIDE) == set(INPUT_TYPES)


@pytest.mark.parametrize("name", INSIDE)
def test_both_sides_accept_and_refuse_the_same_values(name: str) -> None:
    for value in INSIDE[name]:
        declared = Sampling.model_validate({name: value}).model_dump(by_alias=True)[name]
        assert declared == (value if name != "structured_outputs" or not value else declared)
        assert getattr(model.Sampling(**{name: value}), name) == value
    for value in OUTSIDE[name]:  # "must be": in the words of the model's message
        with pytest.raises(ValidationError):
            Sampling.model_validate({name: value})
        with pytest.raises(Exception, match=f"{name} must be") as caught:
            model.Sampling(**{name: value})
        assert type(caught.value).__name__ == "RequestError"


def test_defaults_are_not_sent_and_all_other_values_are() -> None:
    assert GenerateRequest("a").body() == {"text_input": "a"}
    changed: dict[str, Any] = {name: values[1] for name, values in INSIDE.items()}
    request = GenerateRequest("a", 3, Sampling.model_validate(changed), "raw")
    body = {"text_input": "a", "max_tokens": 3, "input_format": "raw"}
    as_text = {name: json.dumps(changed[name]) for name in JSON_TEXT}
    assert request.body() == body | changed | as_text
    assert request.optional_inputs == {*changed, "input_format"}


@pytest.mark.parametrize("builder", templates())
def test_config_has_an_input_for_exactly_what_the_template_obeys(builder: str) -> None:
    text = config_pbtxt(a_spec(builder=builder))
    inputs = dict(re.findall(r'name: "(\w+)", data_type: (\w+), dims: \[ 1 \], optional', text))
    assert inputs.pop("max_tokens") == "TYPE_INT32"
    assert inputs.pop("input_format") == inputs.pop("request_id") == "TYPE_STRING"
    assert "temperature" in inputs
    assert inputs == {name: INPUT_TYPES[name] for name in inputs}
    # A template obeys what the shared modules read by which it generates.
    source = "".join(path.read_text() for path in (TEMPLATES / builder).glob("*.py"))
    for name, shared in {
        "from generation import": "choice",
        "import batching": "batching",
        "from streaming import": "streaming",
    }.items():
        if re.search(f"^{name}", source, re.MULTILINE):
            source += (TEMPLATES / "shared" / f"{shared}.py").read_text()
    read = {name for name in INPUT_TYPES if re.search(rf"(sampling|one)\.{name}\b", source)}
    if builder == "edge-llm":
        read.remove("min_tokens")  # streaming.py asks from when a stop text counts; here: always
    assert set(inputs) == read
