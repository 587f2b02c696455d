"""The form that an answer must have, from OpenAI's and vLLM's ways to ask for one. Pure."""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import PydanticCustomError, from_json

from forge.device.gateway.openai.messages import ResponseFormat
from forge.serving.sampling import StructuredOutputs

__all__ = ["GUIDED", "form_of"]

GUIDED: Final = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}
"""vLLM's older names of the fields of its `structured_outputs`."""


def form_of(
    response_format: ResponseFormat | None,
    structured_outputs: StructuredOutputs | None,
    guided: dict[str, Any],
) -> StructuredOutputs | None:
    """Return the one form that a request asks for; None for any text.

    Args:
        response_format: OpenAI's; a schema that is missing allows any object.
        structured_outputs: vLLM's.
        guided: vLLM's older parameters by name.

    Raises:
        PydanticCustomError: there is more than one form, or a schema is not JSON.
    """
    asked = [
        (name, one)
        for name, one in (
            ("response_format", _of_format(response_format)),
            ("structured_outputs", structured_outputs),
            *((name, _of_guided(name, value)) for name, value in guided.items()),
        )
        if one is not None
    ]
    if len(asked) > 1:
        names = " and ".join(name for name, _ in asked)
        text = "must not be set together: {names}"
        context = {"names": names, "param": asked[-1][0]}
        raise PydanticCustomError("several_forms", text, context)
    return asked[0][1] if asked else None


def _of_format(wanted: ResponseFormat | None) -> StructuredOutputs | None:
    if wanted is None or wanted.type == "text":
        return None
    schema = wanted.json_schema.schema_ if wanted.json_schema else None
    if schema is None:
        return StructuredOutputs(json_object=True)
    return StructuredOutputs(json=schema)


def _of_guided(name: str, value: Any) -> StructuredOutputs | None:
    if value is None:
        return None
    if name == "guided_json" and isinstance(value, str):
        value = _schema(value)
    return StructuredOutputs.model_validate({GUIDED[name]: value})


def _schema(text: str) -> Any:
    try:
        schema = from_json(text)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        problem = "must be a JSON schema"
        raise PydanticCustomError("guided_json", problem, {"param": "guided_json"})
    return schema
